-- SPDX-License-Identifier: MIT
--- The written report of a run (keyferry.report). Methods of a run.
local M = {}

-- What the report says of a partition.
local function facts(session, domain)
    local token = session:token()
    return {
        label = token.label, serial = token.serial, model = token.model,
        manufacturer = token.manufacturer, check = domain and domain:check() or nil,
        module = session:module():info(),
    }
end

-- What vouches for the report: not a domain that nobody can have again.
function M:lasting_domain()
    return not self.is_random and self.source_domain or nil
end

-- What the report says of the source.
function M:source_facts()
    return facts(self.source, self:lasting_domain())
end

function M:begin_report()
    local paper = self.options.report
    if paper then
        paper:begin{
            source = self:source_facts(),
            target = self.target and facts(self.target, not self.is_random
                                           and self:target_domain() or nil) or nil,
        }
    end
end

-- The digest tells months later whether it is still the same key.
function M:note_result(result)
    local digest = result.handle ~= 0 and not result.object.trouble and self.source_end
        and self:lasting_domain() and self.source_end:digest(result.object) or nil
    self.options.report:add(result, digest)
end

-- Writes it, whatever became of the run. A backup is no worse without its report, and the
-- report of the run says that there is none.
function M:finish_report()
    local paper = self.options.report
    if paper and not self.has_reported then
        self.has_reported = true
        local ok, err = paper:finish(self.report, self:lasting_domain())
        self.report.unwritten = not ok and err or nil
    end
end

return M
