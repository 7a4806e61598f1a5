-- SPDX-License-Identifier: MIT
--- option: what the options of the commands mean, declared once for all of them.
local core = require "keyferry.core"

local M = {}

local CLASSES = { "data", "certificate", "public_key", "private_key", "secret_key",
                  "domain_parameters" }

local options = {
    partition = { value = "name", kind = "label", required = true, complete = "partitions",
        help = "The partition: its label or PKCS#11 URI." },
    tokenpar = { value = "name", kind = "label", required = true, complete = "partitions",
        help = "The partition on the backup HSM: its label or PKCS#11 URI." },
    serial = { value = "serialnum", kind = "serial", required = true, complete = "serials",
        help = "The serial number of the backup HSM." },
    password = { value = "password", kind = "secret", max = 255,
        prompt = "Please enter the password for the HSM user partition:",
        help = "The partition's Crypto Officer password; KEYFERRY_PASSWORD, or asked for, "
            .. "without it." },
    tokensopwd = { value = "password", kind = "secret", max = 255,
        prompt = "Please enter a password for the Security Officer of the backup token:",
        again = "Please re-enter the password for the Security Officer of the backup token:",
        help = "The Security Officer password of the backup token, when a partition is to "
            .. "be made; KEYFERRY_TOKENSOPWD, or asked for, without it." },
    tokenpw = { value = "password", kind = "secret", max = 255,
        prompt = "Please enter a password for the user on the backup token:",
        again = "Please re-enter the password for the user on the backup token:",
        help = "The Crypto Officer password of the backup partition; KEYFERRY_TOKENPW, or "
            .. "asked for, without it." },
    domain = { value = "domain", kind = "secret", max = 1024, excludes = "defaultdomain",
        shares = true,
        prompt = "Please enter the cloning domain set when the HSM user partition was created:",
        help = "The cloning domain set when the partition was created; KEYFERRY_DOMAIN, or "
            .. "asked for, without it." },
    defaultdomain = { kind = "flag", excludes = "ped",
        help = "Use the default domain string. Deprecated: everybody knows it." },
    ped = { kind = "flag", excludes = "domain",
        help = "The cloning domain is a red PED key, as of a partition that takes keys: its "
            .. "shares in KEYFERRY_PED, or asked for." },
    add = { kind = "flag", excludes = "replace",
        help = "Add to an existing partition. What is there already is neither duplicated nor "
            .. "overwritten." },
    replace = { kind = "flag", shortcut = "r",
        help = "Replace everything in an existing partition. The old objects go only when "
            .. "every new one is in and checked." },
    force = { kind = "flag", shortcut = "f", help = "Act without asking for confirmation." },
    match = { value = "glob", kind = "string",
        help = "Only objects whose label matches, e.g. 'tls-*'." },
    class = { value = "class,...", kind = "list", choices = CLASSES,
        help = "Only objects of these classes." },
    verify = { kind = "flag", excludes = "plan",
        because = "-verify has no effect with -plan: nothing is cloned",
        help = "Challenge every clone, and what was there already, with a real operation, "
            .. "checked at the source." },
    challenge = { kind = "flag",
        help = "Use every private and secret key for real on one side, and check it on the "
            .. "other." },
    onerror = { value = "continue|stop", kind = "choice", choices = { "continue", "stop" },
        help = "After an object that cannot be cloned: go on (the default) or stop." },
    plan = { kind = "flag", help = "Say what would be done; change nothing." },
    engine = { value = "name", kind = "choice", choices = core.engines(),
        help = "The engine for both ends instead of the one that fits best." },
    report = { value = "file", kind = "path",
        help = "Write a report of the run to this new file, as JSON, authenticated under the "
            .. "cloning domain; -force overwrites one that is there." },
    file = { value = "file", kind = "path", help = "The file of the sealed stream." },
    m = { value = "m", kind = "number", min = 1, max = 16,
        help = "How many shares are needed, 1 without it." },
    n = { value = "n", kind = "number", min = 1, max = 16,
        help = "How many shares there are, at most 16; as many as are needed without it." },
    colour = { value = "colour", kind = "choice", choices = { "blue", "black", "red", "domain" },
        help = "Blue: Security Officer; black: Crypto Officer; red: cloning domain; domain: the "
            .. "text of one." },
    path = { value = "folder,...", kind = "list", complete = "files",
        help = "Write the shares into these folders, one for each share or one for all, "
            .. "instead of showing them on the screen." },
    from = { value = "file,...", kind = "list", complete = "files",
        help = "The files of the shares, or folders that they are in; without it those that "
            .. "KEYFERRY_PED names (':' between them). What is lacking is asked for." },
}

local function copy(value)
    if type(value) ~= "table" then
        return value
    end
    local made = {}
    for name, field in pairs(value) do
        made[name] = copy(field)
    end
    return made
end

--- An option that means the same in every command, for the `options` of a script: `partition`,
-- `tokenpar`, `serial`, `password`, `tokensopwd`, `tokenpw`, `domain`, `defaultdomain`, `ped`,
-- `add`, `replace`, `force`, `match`, `class`, `verify`, `challenge`, `onerror`, `plan`,
-- `engine`, `report`, `file`; of shares `m`, `n`, `colour`, `path`, `from`.
-- @string name
-- @tparam[opt] table changes fields that are otherwise here: `help`, `prompt`, `required`, ...
-- @treturn table a declared option, the caller's own
-- @usage
-- local option = keyferry.option("serial", { required = false })
-- print(option.name, option.kind, option.required)  --> serial	serial	false
function M.new(name, changes)
    if not options[name] then
        error(("there is no standard option '%s'"):format(tostring(name)), 2)
    end
    local option = copy(options[name])
    option.name = name
    for field, value in pairs(changes or {}) do
        option[field] = copy(value)
    end
    return option
end

return M
