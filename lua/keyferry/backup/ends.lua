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

function M:open_source()
    local options = self.options
    self.source_engine = choice.engine(self.source, options.source_engine or options.engine)
    self.source_own = choice.domain(self.source, self.source_engine, self.given)
    self:attach_source()
end

-- A source without a domain of its own takes the one given, for this run.
function M:attach_source()
    local domain = self.source_own or self.given
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
    if own and (not given or given == self.source_domain) then
        return own
    end
    return given or self.source_domain
end

-- Nobody else of us changes the target from here on, so what is found there stays true.
function M:lock_target()
    if not self.lock and not self.options.plan and self.target:probe("softhsm") then
        self.lock = check(core.softhsm.lock_token(self.target))
    end
end

-- What a program that was killed left half written: SoftHSM passes over it, or fills it up with
-- defaults at the first look. Such a key must not count as the one that is there already.
function M:find_target_damage()
    if self.mode == "create" or not self.target:probe("softhsm") then
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
    self:find_target_damage()
    self.target_engine = choice.engine(self.target, options.target_engine or options.engine)
    self.target_own = choice.domain(self.target, self.target_engine, self.given)
    self.report.target_without_domain = not self.target_own
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
