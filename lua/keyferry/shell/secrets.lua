-- SPDX-License-Identifier: MIT
--- What opens partitions: passwords as text, PED keys, or an operator at the PED of the HSM
-- itself; and their domains, as text or as red keys. Methods of a ctx.
-- @classmod ctx
local ask = require("keyferry.shell.ask")
local text = require("keyferry.shell.text")

local M = {}

-- The PED key in the place of each text.
local COLOURS = { password = "black", tokenpw = "black", tokensopwd = "blue", domain = "red" }

local ATTEND = {
    so = "the blue key (Security Officer)", user = "the black key (Crypto Officer)",
}

--- Says what an operator has to do at the PED, before the call that waits for it. Also under
-- --quiet: nothing goes on without him.
-- @param out the output
-- @tparam partition partition
-- @string role "so" or "user"
function M.attend(out, partition, role)
    out:err(text.clean(('Please attend to the PED: %s for partition "%s" on HSM "%s".'):format(
        ATTEND[role], partition.label, partition.hsm.name)))
end

local function place_of(partition)
    return ('partition "%s" on HSM "%s"'):format(partition.label, partition.hsm.name)
end

-- Whose files hold the shares for one of several roles in a command; KEYFERRY_PED is for all.
local function variable(name)
    return "KEYFERRY_PED_" .. name:upper()
end

--- What opens a partition that somebody logs in to without a secret.
-- @tparam ctx ctx
-- @tparam partition partition
-- @string[opt] name the option that a password would be given by
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err
function M.of_partition(ctx, partition, name)
    if partition:takes_keys() then
        return ctx:ped_key("black", { of = place_of(partition),
            env = name and variable(name) })
    end
    return ask.password_of(partition, ctx.output)
end

-- How a secret is given: "text", "key", or nil: by nobody here, it is the matter of the PED.
local function way_of(name, partition)
    if not partition or partition:authentication() == "password" then
        return "text"
    elseif partition:takes_keys() then
        return "key"
    end
    return COLOURS[name] == "black" and partition:takes_password() and "text" or nil
end

-- What was given for a text, as people gave it: "-password", "KEYFERRY_DOMAIN"; or nil.
local function given(ctx, option)
    local env = option.env or "KEYFERRY_" .. option.name:upper()
    if ctx.options[option.name] then
        return "-" .. option.name
    elseif option.kind == "flag" then
        return nil
    end
    local secret <close> = ask.sources.variable(env)
    if secret then
        return env
    end
    local path = ask.sources.path(env .. "_FILE")
    return path and path ~= "" and env .. "_FILE" or nil
end

--- Says once what was given as text and is not taken, where a partition takes PED keys.
-- @tparam partition partition
-- @tparam[opt] table taken what is text all the same: names of options as keys
function M:ignore_text(partition, taken)
    local names = {}
    if self.keys_only or partition:authentication() ~= "ped" then
        return
    end
    self.keys_only = true
    for _, option in ipairs(self.script.options or {}) do
        local is_text = option.kind == "secret" or option.name == "defaultdomain"
        if is_text and not (taken and taken[option.name]) then
            names[#names + 1] = given(self, option)
        end
    end
    if names[1] then
        self:note('%s %s ignored: partition "%s" takes PED keys and no text.',
            table.concat(names, ", "), names[2] and "are" or "is", partition.label)
    end
end

local function ask_key(ctx, name, what)
    local partition, colour = what.of, COLOURS[name]
    local of = partition and place_of(partition)
    if colour == "blue" then
        of = ('HSM "%s"'):format(partition.hsm.name)
    end
    local secret, err = ctx:ped_key(colour, { of = of, env = variable(name) })
    if secret and colour == "blue" then
        local ok
        ok, err = partition.hsm:check_blue_key(secret)
        secret = ok and secret
    end
    return secret or nil, err
end

local OWNERS = { password = "user", tokenpw = "user", tokensopwd = "security officer" }

-- A password that was given, and is outside the limits of its token: refused before anything
-- is asked or opened.
local function check_given(what, secret)
    local owner = OWNERS[what[1]]
    local module = owner and what.of and what.of.hsm:module()
    if not module then
        return true
    elseif what.new then
        return module:check_new_pin(what.of.slot, secret, owner)
    end -- modules name the limits of the user's, and take other PINs of an officer
    return owner ~= "user" or module:check_pin(what.of.slot, secret, owner)
end

local function given_text(ctx, what)
    local secret, err = ctx:secret(what[1], { quiet = true })
    if secret then
        local ok
        ok, err = check_given(what, secret)
        secret = ok and secret
    end
    return secret or nil, err
end

local function ask_text(ctx, name, what)
    if what.quiet then
        return nil
    end
    ctx.typed[name] = true
    return ctx:secret(name, { new = what.new })
end

-- A token that has no security officer (NSS) needs no password of one.
local function has_owner(what)
    return what[1] ~= "tokensopwd" or not what.of or not what.of.hsm:quirk("so_pin_empty")
end

local function is_wanted(ctx, name, way, what)
    local by_default = name == "domain" and ctx.options.defaultdomain
    return not what.unless and has_owner(what)
        and (way == "text" and not by_default or way == "key" and not what.quiet)
end

--- Several secrets, asked for in this order: PED keys for what takes keys, nothing for what its
-- HSM takes at its own PED.
-- @tparam table wanted array of `{ "password", of = partition }`: the name of an option of the
--   kind secret, and whose it is; `new` true: asked for twice; `quiet` true: taken when it was
--   given, never asked for; `unless` true: neither; `key` true: a PED key, whosever it is. The
--   domain is neither where -defaultdomain is given
-- @treturn[1] table secrets by name
-- @treturn[2] nil
-- @treturn[2] err
function M:secrets(wanted)
    local secrets, ways, taken = {}, {}, {}
    self.typed = {}
    for i, what in ipairs(wanted) do
        ways[i] = what.key and "key" or way_of(what[1], what.of)
        taken[what[1]] = ways[i] == "text" or what.key or nil
    end
    for _, what in ipairs(wanted) do
        if what.of then
            self:ignore_text(what.of, taken)
        end
    end
    for i, what in ipairs(wanted) do
        if ways[i] == "text" and is_wanted(self, what[1], "text", what) then
            local secret, err = given_text(self, what)
            if err then
                return nil, err
            end
            secrets[what[1]] = secret
        end
    end
    for i, what in ipairs(wanted) do
        local name = what[1]
        if not secrets[name] and is_wanted(self, name, ways[i], what) then
            local get = ways[i] == "key" and ask_key or ask_text
            local secret, err = get(self, name, what)
            if err then
                return nil, err
            end
            secrets[name] = secret
        end
    end
    return secrets
end

-- What `how.secret` of ctx:login is for a partition that takes text.
local function text_for(ctx, secret)
    if ask.is_secret(secret) then
        return secret
    end
    return ctx:secret(secret or "password")
end

--- What a partition is opened with, for ctx:login; nil without an error: its PED sees to it.
-- @local
-- @tparam partition partition
-- @param secret as ctx:login takes it
-- @treturn[1] ?secret
-- @treturn[2] nil
-- @treturn[2] err
function M:opener(partition, secret)
    local name = type(secret) == "string" and secret or "password"
    self:ignore_text(partition, { [name] = partition:takes_password() or nil })
    if partition:takes_keys() then
        return ask.is_secret(secret) and secret or M.of_partition(self, partition, name)
    elseif partition:takes_password() then
        return text_for(self, secret)
    end
    return nil
end

return M
