-- SPDX-License-Identifier: MIT
--- authentication: who opens a partition with what: a password, PED keys, or an operator at the
-- PED of the HSM itself. Methods of a partition.
-- @classmod keyferry.partition

local core = require "keyferry.core"

local M = {}

--- How its roles are authenticated: by passwords, or by PED keys: its token has a protected
-- authentication path, or its HSM is one whose secrets are keys.
-- @treturn string "password" or "ped"
-- @usage
-- print(partition:authentication())  --> password
function M:authentication()
    local ped = self.token.protected_path or self.hsm.authentication == "ped"
    return ped and "ped" or "password"
end

--- Whether it is opened with PED keys that a program reads (`keyferry hsm create -ped`): what
-- keyferry.ped makes of its black key is its password.
-- @treturn boolean
function M:takes_keys()
    return self.hsm.authentication == "ped" and self.hsm.conf ~= nil
        and not self.token.protected_path
end

--- Whether its Crypto Officer has a password: with a PED only where the configuration of its HSM
-- says that there is a challenge.
-- @treturn boolean
function M:takes_password()
    return self:authentication() == "password"
        or self.token.protected_path and self.hsm.challenge == true
end

local KINDS = { password = "a password", ped = "PED keys" }

--- Whether objects may be backed up from one to the other: what was behind PED keys does not go
-- behind a password, and the other way round.
-- @tparam partition other
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED
function M:check_authentication(other)
    local mine, its = self:authentication(), other:authentication()
    if mine == its then
        return true
    end
    return nil, core.error{
        code = "KFR_REFUSED",
        what = ('partition "%s" is opened with %s, and %s with %s'):format(self.label,
            KINDS[mine], other.token.initialized and ('partition "%s"'):format(other.label)
                or ('a new one on HSM "%s"'):format(other.hsm.name), KINDS[its]),
        hint = "a backup has the authentication of its source: name an HSM of that kind",
    }
end

--- Whether a partition that is not there yet (hsm:next_partition) can be made with a cloning
-- domain: what an HSM takes at its own PED no program can give it.
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED
function M:can_be_made()
    local ok, err = self.hsm:can_create()
    if not ok or self:authentication() == "password" or self:takes_keys() then
        return ok, err
    end
    return nil, core.error{
        code = "KFR_REFUSED",
        what = ('HSM "%s" takes the cloning domain of a new partition at its own PED, and PKCS#11 '
            .. 'has no call for that'):format(self.hsm.name),
        hint = "make the partition with the vendor's own tool and the red key of its source, then "
            .. "run again with -add",
    }
end

local ROLES = {
    so = { colour = "blue", name = "Security Officer" },
    user = { colour = "black", name = "Crypto Officer" },
}

-- What a module answers when nobody did what the PED asked for (PKCS#11 v3.1 section 5.1, and
-- Luna's own).
local ABSENT = {
    CKR_CANCEL = true, CKR_FUNCTION_CANCELED = true, CKR_FUNCTION_REJECTED = true,
    CKR_CALLBACK_ERROR = true, CKR_SP_TIMEOUT = true, CKR_TIMEOUT = true,
}

local WRONG = { CKR_PIN_INCORRECT = true, CKR_CHALLENGE_INCORRECT = true }

-- Whether a call that is given no secret waits for an operator.
local function waits(partition, secret)
    return secret == nil and partition.token.protected_path
end

--- Called before each call that may wait for an operator: tells whom keyferry.configure named.
-- @local
-- @tparam ?secret secret what the call is given
-- @string role "so" or "user"
function M:attend(secret, role)
    if waits(self, secret) and self.hsm.attend then
        self.hsm.attend(self, role)
    end
end

--- Says of a refused login what is wrong with a key, and not with a password.
-- @local
-- @param err the refusal
-- @tparam ?secret secret what the call was given
-- @string role "so" or "user"
-- @treturn err
function M:explain(err, secret, role)
    local key = ("%s key (%s)"):format(ROLES[role].colour, ROLES[role].name)
    local tries = (err.hint or ""):find("locked", 1, true) and err.hint .. "; " or ""
    if WRONG[err.code] and (waits(self, secret) or self:takes_keys()) then
        err.hint = ("%sthe %s is not that of this partition: be sure of it, since several "
            .. "wrong ones lock the role"):format(tries, key)
    elseif ABSENT[err.code] and waits(self, secret) then
        err.hint = ("nobody presented the %s at the PED in time, or it was cancelled there: "
            .. "attend to the PED and run the command again"):format(key)
    end
    return err
end

return M
