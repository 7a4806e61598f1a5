-- SPDX-License-Identifier: MIT
--- What the commands that clone from partition to partition have in common: the domain, the
-- confirmation, and what their options say of a run. Methods of a ctx.
-- @classmod ctx
local ends = require("keyferry.backup.ends")
local keyferry = require("keyferry")

local M = {}

local DOMAIN_TRIES = 3

--- The cloning domain of a secret, or the default one with -defaultdomain, which is warned of.
-- A refusal is raised.
-- @tparam ?secret secret
-- @treturn ?domain nil: none was asked for
function M:domain(secret)
    if self.options.defaultdomain and not self.keys_only then
        self:warn("-defaultdomain is deprecated: everybody knows the default domain")
        return assert(keyferry.default_domain())
    end
    return secret and assert(keyferry.domain(secret))
end

--- Whether the partition has a cloning domain of its own. A refusal is raised.
-- @tparam session session
-- @treturn boolean
function M.has_domain(_, session)
    local domain <close>, err = session:find_domain()
    if not domain and err.code ~= "KFR_NOT_FOUND" then
        error(err, 0)
    end
    return domain ~= nil
end

--- For `on_mismatch`: a domain that was typed and does not match may be typed again. A refusal
-- is raised.
-- @tparam int attempt
-- @treturn ?domain nil: that was all
function M:another_domain(attempt)
    if attempt >= DOMAIN_TRIES or not self.typed or not self.typed.domain then
        return nil
    end
    return assert(keyferry.domain(assert(self:secret{
        prompt = "The cloning domain does not match. Please enter it again:", shares = true,
    })))
end

--- What an option says, else the `defaults` of the configuration. A refusal is raised.
-- @string name "onerror"
-- @treturn ?string nil: neither
function M:setting(name)
    local value = self.options[name]
    if value == nil then
        value = assert(keyferry.defaults())[name]
    end
    return value
end

--- The engine for an HSM: of -engine, of its configuration, of the `defaults`.
-- @tparam hsm hsm
-- @treturn ?string nil: the one that fits best
function M:engine(hsm)
    return self.options.engine or hsm.engine or self:setting("engine")
end

--- What the command's options say of a run, for keyferry.backup and keyferry.send: all but its
-- two ends. A refusal is raised.
-- @tparam table about `source`: the partition; `hsm`: the HSM of the target; `domain`: the
--   secret that the domain is made of
-- @treturn table
function M:policy(about)
    local options, source = self.options, about.source
    return {
        domain = self:domain(about.domain), mode = options.replace and "replace" or "add",
        source_engine = self:engine(source.hsm or {}), target_engine = self:engine(about.hsm or {}),
        verify = options.verify, plan = options.plan,
        select = { label = options.match, class = options.class },
        on_mismatch = function(attempt) return self:another_domain(attempt) end,
        on_error = function() return self:setting("onerror") end,
        on_result = function(result) self:tell(result, source) end,
        on_progress = function(done, total) self:progress(done, total) end,
    }
end

--- Says what -replace is about to do, to which token, and asks; see ctx:confirm.
-- @tparam session session with the target
-- @tparam partition target
-- @tparam partition source
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err
function M:confirm_replacing(session, target, source)
    local objects, err = session:find()
    if not objects then
        return nil, err
    end
    return self:confirm{
        ('All %d objects of partition "%s" (serial %s) on HSM "%s" (serial %s)')
            :format(#objects, target.label, target.serial, target.hsm.name,
                    target.hsm.serial or "unknown"),
        ('will be removed and replaced by those of partition "%s" (serial %s).')
            :format(source.label, source.serial),
    }
end

--- Whether the target is what a run that was cut off has left, of the same source: then the same
-- command goes on with it. One that has no user PIN yet is made again.
-- @tparam table run `hsm`; `target`, nil afterwards when it is to be made again; `source`, the
--   partition or a stream's (keyferry.archive.source)
-- @treturn boolean
function M:goes_on(run)
    local target, source = run.target, run.source
    if not target then
        return false
    elseif run.hsm.conf and run.hsm:is_half_made(target) then
        -- To make it again its HSM is opened anew, which would end the session with the source.
        if source.hsm and source.hsm.conf == run.hsm.conf and not self.options.plan then
            error(keyferry.error{ code = "KFR_REFUSED", hint = "remove it with 'keyferry partition "
                .. "delete', then run again", what = ('partition "%s" was made by half, on the HSM '
                .. 'of the source'):format(target.label) }, 0)
        end
        self:note('Partition "%s" was made by half: it is made again.', target.label)
        run.target, self.remains = nil, target
        return true
    end
    local of = ends.read_mark(target:unfinished() or "")
    if of == source.serial .. " " .. source.label then
        self:note('Partition "%s" is the unfinished backup of partition "%s": the run goes on.',
            target.label, source.label)
        return true
    elseif of ~= "" and self.options.add then
        self:warn('partition "%s" is the unfinished backup of another partition (%s), and stays it',
            target.label, of)
    end
    return false
end

--- Makes the partition that a run fills, for its `create`; ctx:remove_target is its `discard`.
-- @tparam hsm hsm
-- @tparam table options as for hsm:create_partition
-- @treturn[1] session that can write
-- @treturn[2] nil
-- @treturn[2] err
function M:make_target(hsm, options)
    local session
    local remains, ok, partition, err = self.remains, true, nil, nil
    if remains then
        ok, err = hsm:delete_half_made(remains)
    end
    if ok then
        partition, err = hsm:create_partition(options)
    end
    if not partition then
        return nil, err
    end
    session, err = partition:login(options.password, { writable = true })
    if not session then
        hsm:delete_partition(partition)
        return nil, err
    end
    self.made = { partition = partition, session = session }
    return session
end

--- Removes the partition that ctx:make_target made, and says so.
function M:remove_target()
    local partition, session = self.made.partition, self.made.session
    local objects = session:find() or {}
    session:close()
    if objects[1] then -- another program's: nothing of this run is there
        self:warn('partition "%s" is left, since another program has put %d objects into it',
            partition.label, #objects)
        return
    end
    local ok, err = partition.hsm:delete_partition(partition)
    if ok then
        self:note('Partition "%s" has been removed again.', partition.label)
    else
        self:warn('partition "%s" could not be removed again: %s', partition.label,
            tostring(err))
    end
end

return M
