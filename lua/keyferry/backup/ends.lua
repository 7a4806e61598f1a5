-- SPDX-License-Identifier: MIT
--- The two ends of a run: their engines, their domains, who may write. Methods of a run.
local core = require "keyferry.core"
local choice = require "keyferry.backup.choice"
local guard = require "keyferry.guard"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local check = stopping.check
local failure = stopping.failure
local check_interrupt = stopping.check_interrupt

local M = {}

local DOMAIN_LABEL = "keyferry domain" -- of its keys in a partition (c/README.md)

local function check_unfinished(target)
    local of, err = target:unfinished()
    if err then
        stop(err)
    end
    return of
end

-- The backup of an unfinished backup would be called good. With `unfinished` it is made, and
-- called partial.
function M:refuse_unfinished_source()
    local of, err = self.source:unfinished()
    if err then
        stop(err)
    elseif of then
        self.cut_off = failure("KFR_REFUSED", "the source is an unfinished backup: the run that "
                               .. "made it was cut off", "finish it with the same command that "
                               .. "began it; -force takes what there is")
    end
    if of and not self.options.unfinished then
        stop(self.cut_off)
    end
end

-- Two partitions between which the HSM itself clones have the domain that is in it, and take no
-- other; each clone is made and told by itself.
function M:settle_pair()
    local options = self.options
    for _, session in ipairs{ self.source, self.target } do
        choice.refuse_virtual(session)
    end
    self.pair = choice.pair(self.source, self.target, options.source_engine or options.engine,
                            options.target_engine or options.engine)
    if self.pair then
        self.report.domain_ignored = self.given and true or nil
        self.given, self.is_random, self.batch = nil, true, 1
    end
end

function M:open_source()
    local options = self.options
    self:refuse_unfinished_source()
    self:settle_pair()
    self.source_engine = self.pair
        or choice.engine(self.source, options.source_engine or options.engine)
    self.source_own = choice.domain(self.source, self.source_engine, self.given)
    self:attach_source()
end

-- A source without a domain of its own takes the one given, for this run.
function M:attach_source()
    local domain = self.source_own or self.given
    if not domain and self.options.plan and not self.target then
        domain = core.random_domain() -- whatever it is, the same objects can be sealed
        self.given, self.is_random = domain, true
    end
    if not domain then
        stop(failure("KFR_NO_SECRET", "the source partition has no cloning domain of its own "
                     .. "and none was given", "give one with -domain"))
    end
    if self.source_end then
        self.source_end:close()
    end
    self.source_domain = domain
    self.source_end = check(self.source:endpoint(self.source_engine, domain))
end

-- The domain that opens at the target. The one given is applied to the target, as the
-- reference page has it; a partition that has its own takes nothing but that one.
function M:target_domain()
    local own, given = self.target_own, self.given
    if own and not given and self.source_engine == "softhsm" and own == self.source_domain then
        return self.source_domain -- read from a store: its keys are at hand, those of `own` not
    elseif own and (not given or given == self.source_domain) then
        return own
    end
    return given or self.source_domain
end

-- The engine of a target that is not there, or not known yet.
function M:engine_without_target()
    local options = self.options
    return options.target_engine or options.engine or self.source_engine
end

-- Nobody else of us changes the target from here on, so what is found there stays true.
function M:lock_target()
    if not self.lock and not self.options.plan and self.target:probe("softhsm") then
        self.lock = check(core.softhsm.lock_token(self.target))
    end
end

-- What a program that was killed left half written: SoftHSM passes over it, or fills it up with
-- defaults at the first look. Such a key must not count as the one that is there already. In the
-- unfinished backup of this source it is what the run that was cut off left, and goes.
function M:find_target_damage()
    if self.mode == "create" or not self.target:probe("softhsm") then
        return
    elseif self.resumes and not self.options.plan then
        check(core.softhsm.clear_damaged(self.target))
        return
    end
    for _, err in ipairs(check(core.softhsm.damaged(self.target))) do
        if err.code ~= "KFR_DAMAGED" then
            self.report.target_damaged = err
        elseif self.mode == "add" then
            err.hint = "remove that file from the backup's store, or use -replace"
            stop(err)
        end
    end
end

function M:open_target()
    local options = self.options
    self:lock_target()
    self.unfinished = check_unfinished(self.target)
    local name, share = M.read_mark(self.unfinished or "")
    self.resumes = self.mode == "add" and name == self:source_name()
    self.begun_share = self.resumes and share
    self:find_target_damage()
    choice.refuse_virtual(self.target)
    self.target_engine = self.pair
        or choice.engine(self.target, options.target_engine or options.engine)
    self.target_own = choice.domain(self.target, self.target_engine, self.given,
                                    self.unfinished)
    self.report.resumed = self.resumes or nil
    self.report.target_without_domain = not self.target_own and not self.resumes
end

-- What the mark of an unfinished backup says of its source.
function M:source_name()
    local token = self.source:token()
    return token.serial .. " " .. token.label
end

local function takes_all(select)
    return select == nil or type(select) == "table" and next(select) == nil
end

-- Which part of its source a run takes, in a few digits; "" for all. One function of a policy is
-- like another. A stream may be a part by itself, which only its end tells.
function M:share()
    local select = self.options.select
    local words = { self.head and "stream" or nil }
    for name, value in pairs(takes_all(select) and {} or type(select) == "table" and select
                             or { label = select }) do
        local text = type(value) == "table" and table.concat(value, ",") or tostring(value)
        words[#words + 1] = name .. "=" .. (type(value) == "function" and "?" or text)
    end
    table.sort(words)
    local hash = words[1] and check(core.sha256(table.concat(words, "\n"))):sub(1, 6) or ""
    return (hash:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- The mark of the partition that this run is about to make.
function M:mark()
    local share = self:share()
    return self:source_name() .. (share ~= "" and "\n" .. share or "")
end

--- What a mark says.
-- @treturn string the source
-- @treturn string which part of it
function M.read_mark(mark)
    local name, share = mark:match("^(.*)\n(%x+)$")
    return name or mark, share or ""
end

-- Whether this run takes all that the one which was cut off was to take.
function M:takes_the_rest()
    local last = self.head and self.source:finished()
    return self:share() == self.begun_share
        or takes_all(self.options.select) and (not last or last.skipped == 0)
end

-- A run that was cut off may have left the partition without its domain, or with a part of it.
function M:complete_target()
    if self.target_own or not self.resumes or self.options.plan then
        return
    end
    for _, key in ipairs(check(self.target:find{ token = true, label = DOMAIN_LABEL })) do
        if key.class == "secret_key" and (key.id or ""):find("^keyferry\1") then
            check(key:destroy())
        end
    end
    check(self.target:install_domain(self.given or self.source_domain))
    self.target_own = choice.domain(self.target, self.target_engine, self.given)
end

-- The run has come to its end: what is on the target is what it was to be. A replacement that
-- could not be whole has left what was there.
function M:finish_target()
    local left = self.mode == "replace" and (self.report.failed > 0 or self.incomplete)
    if self.options.plan or left or self.mode == "add" and not self.resumes then
        return
    elseif self.resumes and not self:takes_the_rest() then
        self.cut_off = failure("KFR_REFUSED", "the target still is an unfinished backup: the run "
                               .. "that was cut off was to clone other objects, too",
                               "finish it with the command that began it, or without a selection")
        return
    end
    check(self.target:mark_finished())
end

function M:attach_target()
    if self.target_end then
        self.target_end:close()
    end
    self.target_end = check(self.target:endpoint(self.target_engine, self:target_domain()))
end

-- Whether a blob of this source opens at the target's domain. Without an object that can be
-- sealed only the check values can be compared.
function M:domain_fits()
    for _, object in ipairs(self.objects) do
        check_interrupt()
        local sealed <close> = not object.trouble and self.source_end:seal(object) or nil
        if sealed then
            local ok, err = sealed:opens(self:target_domain())
            if not ok and err.code ~= "KFR_DOMAIN_MISMATCH" then
                stop(err)
            end
            return ok, err
        end
    end
    if self.source_domain == self:target_domain() then
        return true
    end
    return nil, failure("KFR_DOMAIN_MISMATCH",
                        "the cloning domain is not that of the source partition")
end

-- Asks the policy for another domain until one fits. False: it has none.
function M:settle_domain()
    local attempt = 1
    local ok, err = self:domain_fits()
    while not ok do
        local another = self.options.on_mismatch
            and guard.hook(self.options.on_mismatch, attempt, err)
        if not another then
            self.mismatch = err
            return false
        end
        self.given, attempt = another, attempt + 1
        self:attach_source()
        ok, err = self:domain_fits()
    end
    return true
end

return M
