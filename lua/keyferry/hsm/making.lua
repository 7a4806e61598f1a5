-- SPDX-License-Identifier: MIT
--- Making partitions on an HSM and removing them. Methods of an HSM.
-- @classmod keyferry.hsm

local core = require "keyferry.core"
local guard = require "keyferry.guard"
local Partition = require "keyferry.partition"

local M = {}

local function fail(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

-- The serials of all tokens, as keys.
local function serials(slots)
    local set = {}
    for _, token in ipairs(slots) do
        set[token.serial] = token.initialized or nil
    end
    return set
end

local function fixed_label(hsm, label, free)
    return fail("KFR_REFUSED", ('the label of a new partition on HSM "%s" is fixed: "%s", not "%s"')
        :format(hsm.name, free.label, label), "ask for that label, or change it where the "
        .. "configuration has it (NSS: dbTokenDescription or FIPSTokenDescription in init_args)")
end

-- `label`: what the partition is to be called, if that is known.
local function free_slot(hsm, slots, label)
    local is_fixed, other = label and hsm:quirk("label_fixed"), nil
    for _, token in ipairs(slots) do
        if token.present and not token.initialized and not token.write_protected then
            if not is_fixed or token.label == label then
                return token
            end
            other = other or token
        end
    end
    if other then
        return fixed_label(hsm, label, other)
    end
    return fail("CKR_TOKEN_WRITE_PROTECTED",
                ('HSM "%s" has no free slot for a new partition'):format(hsm.name),
                "delete a partition, or make one with the vendor's own tool")
end

--- The slot that a new partition would be made in.
-- @string[opt] label the partition's: KFR_REFUSED where it is not to be had
-- @treturn[1] table a token table
-- @treturn[2] nil
-- @treturn[2] err CKR_TOKEN_WRITE_PROTECTED: none is free; KFR_REFUSED (hsm:can_create)
function M:spare_slot(label)
    local may, why = self:can_create()
    local slots, err
    if may then
        slots, err = self:slots()
    end
    if not slots then
        err = err or why
        return nil, err
    end
    return free_slot(self, slots, label)
end

--- The partition that would be made next, before it is: how it will be authenticated, and
-- whether its HSM keeps its domain.
-- @string label
-- @treturn[1] partition that cannot be opened
-- @treturn[2] nil
-- @treturn[2] err CKR_TOKEN_WRITE_PROTECTED: there is no room for one
-- @usage
-- local next_one = assert(hsm:next_partition("archive"))
-- print(next_one.label, next_one:authentication())  --> archive	password
function M:next_partition(label)
    local slot, err = self:spare_slot(label)
    if not slot then
        return nil, err
    end
    local partition = Partition.new(self, slot)
    partition.label = label
    return partition
end

--- Whether a key is the blue one that a soft HSM with PED keys was made with.
-- @tparam secret secret what keyferry.ped makes of it
-- @treturn[1] true also of an HSM that knows no key
-- @treturn[2] nil
-- @treturn[2] err CKR_PIN_INCORRECT
function M:check_blue_key(secret)
    if not self.blue_check then
        return true
    end
    if not secret or core.share.check(secret) ~= self.blue_check then
        return fail("CKR_PIN_INCORRECT", ('another blue key than that of HSM "%s"')
                    :format(self.name), "take the blue key that the HSM was made with")
    end
    return true
end

-- Puts the domain in, and looks whether it is there for every engine: SoftHSM answers OK
-- when its disk is full.
local function install(session, domain)
    local ok, err = session:install_domain(domain)
    for _, engine in ipairs(core.engines()) do
        if ok and session:probe(engine) then
            ok, err = session:find_domain(engine)
        end
    end
    if not ok and err.code == "KFR_NOT_FOUND" then
        return fail("KFR_STORE", "the new partition did not keep its cloning domain",
                    "see whether the HSM has room left")
    end
    return ok, err
end

-- Gives the new token its user PIN and its domain; the session it leaves is closed.
local function set_up(hsm, partition, options)
    local session <close>, err = partition:open{ writable = true }
    if not session then
        return nil, err
    end
    local password = options.password
    local ok, marked
    partition:attend(options.so_password, "so")
    ok, err = session:login(options.so_password, "so")
    if ok then
        marked = not options.unfinished or session:mark_unfinished(options.unfinished)
        partition:attend(password, "user")
        ok, err = session:init_pin(password)
    else
        partition:explain(err, options.so_password, "so")
    end
    if ok then
        ok, err = session:logout()
    end
    if ok then
        partition:attend(password, "user")
        ok, err = session:login(password, "user")
        err = not ok and partition:explain(err, password, "user") or nil
    end
    if ok and not marked then -- an HSM whose officer may make no objects
        session:mark_unfinished(options.unfinished)
    end
    if ok and options.domain then
        ok, err = install(session, options.domain)
    end
    if not ok then
        return nil, err
    end
    hsm:refresh(partition)
    return partition
end

-- A label that a token gives back as it was given.
local function check_label(label)
    if #label == 0 or #label > 32 or label:find("%c") or label:find(" $") then
        return fail("KFR_ARGUMENT", "a label has 1 to 32 bytes, no control characters and "
                    .. "no blank at its end", "choose another label")
    end
    return true
end

-- Looking whether there is such a partition and making it are one step, also when two
-- programs do it at once; and a token that SoftHSM does not list just now (it does not when
-- another program logs in at that moment) is there all the same.
local function lock_label(hsm, label)
    local ok, err = check_label(label)
    if not ok or not hsm.conf then
        return nil, err
    end
    local lock
    lock, err = core.softhsm.lock_tokens(hsm.conf)
    if not lock then
        return nil, err
    end
    local has
    has, err = core.softhsm.has_label(hsm.conf, label)
    if has == false then
        return lock
    end
    lock:close()
    return nil, err or core.error{
        code = "KFR_EXISTS",
        what = ('a partition "%s" is on HSM "%s" now: another program has just made it, or was '
                .. 'logging in to it'):format(label, hsm.name),
        hint = "look at it with 'keyferry partition list', then run again",
    }
end

-- The partition that was made in that slot. Its token may have moved to another slot (SoftHSM)
-- and then is the one with that label that was not there before.
local function find_made(hsm, before, slot, label)
    local list, err = hsm:slots()
    if not list then
        return nil, err
    end
    for _, token in ipairs(list) do
        if token.present and token.label == label
            and (token.slot == slot.slot or token.initialized and not before[token.serial]) then
            return Partition.new(hsm, token)
        end
    end
    return fail("KFR_STORE", ('the new partition "%s" is not to be found on HSM "%s"')
                :format(label, hsm.name), "look at the HSM with 'keyferry partition list'")
end

--- Whether partitions can be made here. An HSM that keeps the cloning domains itself (Luna) has
-- them set by its vendor's own tool.
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED
function M:can_create()
    local module, err = self:module()
    if not module then
        return nil, err
    elseif not core.domain_in_hardware(module) then
        return true
    end
    return fail("KFR_REFUSED", ('HSM "%s" keeps the cloning domains of its partitions itself, and '
        .. "no program can give a new one its domain"):format(self.name), "make the partition and "
        .. "its domain with the vendor's own tool (lunacm, or lunash on the appliance), then run "
        .. "again with -add")
end

local function init(hsm, slot, options)
    local partition = Partition.new(hsm, slot)
    partition.label = options.label
    partition:attend(options.so_password, "so")
    local ok, err = hsm:module():init_token(slot.slot, options.so_password, options.label)
    return ok, not ok and partition:explain(err, options.so_password, "so") or nil
end

-- A token that has no security officer (NSS) takes an empty PIN for one.
local function without_officer(hsm, options)
    if not hsm:quirk("so_pin_empty") then
        return options
    end
    local own = { so_password = core.secret(""), no_officer = true }
    return setmetatable(own, { __index = options })
end

local function check_pins(module, slot, options)
    local ok, err = true, nil
    if not options.no_officer then
        ok, err = module:check_new_pin(slot.slot, options.so_password, "security officer")
    end
    if ok then
        ok, err = module:check_new_pin(slot.slot, options.password, "user")
    end
    return ok, err
end

-- The slot that a new partition goes to, whose token takes its PINs, and the serial numbers that
-- are there before; nil, err.
local function place_for(hsm, options)
    local slots, err = hsm:slots()
    local slot, ok
    if slots then
        slot, err = free_slot(hsm, slots, options.label)
    end
    if slot then
        ok, err = check_pins(hsm:module(), slot, options)
    end
    if not ok then
        return nil, err
    end
    return slot, serials(slots)
end

-- A partition that could not be set up goes again where it can; gives the error.
local function undo(hsm, partition, options, err)
    if hsm.conf then
        hsm:delete_partition(partition)
    elseif not options.no_officer
        or not hsm:module():init_token(partition.slot, options.so_password, options.label) then
        err.hint = ('partition "%s" is left without its cloning domain: remove it with the '
            .. "vendor's own tool"):format(partition.label)
    end
    return err
end

--- Makes a partition: a new token, its Crypto Officer and its cloning domain. All or none.
-- @tparam table options
--
--   * `label`: 1 to 32 bytes of UTF-8 (CK_TOKEN_INFO, PKCS#11 v2.40 section 3.2)
--   * `so_password`, `password`: secrets for the security officer and the Crypto Officer; nil
--     with a protected authentication path, what keyferry.ped makes of a blue and a black key
--     on an HSM with PED keys
--   * `domain`: its cloning domain; without one it has none of its own, and no way to get one
--     but session:install_domain
--   * `unfinished`: marks it as a backup that is not finished, of what that says, as long as
--     nobody calls session:mark_finished
-- @treturn[1] partition
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_ARGUMENT, CKR_TOKEN_WRITE_PROTECTED (no slot is free),
--   CKR_PIN_INCORRECT (not the blue key of the HSM), ...
-- @usage
-- local new = assert(hsm:create_partition{
--     label = "archive", domain = domain, password = keyferry.secret("a user's PIN"),
--     so_password = keyferry.secret("an officer's PIN"),
-- })
-- print(new.label, hsm:partition("archive"):is_same(new))  --> archive	true
function M:create_partition(options)
    local may, err = self:can_create()
    if not may then
        return nil, err
    end
    local ok
    ok, err = self:check_blue_key(options.so_password)
    if not ok then
        return nil, err
    end
    options = without_officer(self, options)
    local lock <close>, why = lock_label(self, options.label) -- luacheck: ignore lock
    if why then
        return nil, why
    end
    local slot, before = place_for(self, options)
    if not slot then
        return nil, before
    end
    ok, err = init(self, slot, options)
    if not ok then
        return nil, err
    end
    local partition
    partition, err = find_made(self, before, slot, options.label)
    if not partition then
        return nil, err
    end
    ok, err = set_up(self, partition, options)
    if not ok then
        return nil, undo(self, partition, options, err)
    end
    return partition
end

-- Whether nothing is in a token but what is put there before its user PIN, whole or not: the
-- mark of an unfinished backup. Files are counted, since private objects show themselves to
-- nobody without that PIN.
local function is_untouched(session)
    local files, wrecks = nil, nil
    if session:probe("softhsm") then
        files, wrecks = core.softhsm.count_files(session)
    end
    return files == 0 or files == 1 and (wrecks == 1 or session:unfinished() ~= nil)
end

--- Whether a program that was killed has left a partition without a user PIN. Nobody can log
-- in to it; without an object in it nothing is lost with it.
-- @tparam partition partition
-- @treturn boolean
function M.is_half_made(_, partition)
    if partition.token.user_pin_initialized or partition.token.protected_path then
        return false
    end
    local session <close> = partition:open()
    return session ~= nil and is_untouched(session)
end

--- Removes a partition that is half made, if it still is: while a password was typed somebody
-- may have gone on with it.
-- @tparam partition partition
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS: it is not half made any more
function M:delete_half_made(partition)
    local lock <close>, err = core.softhsm.lock_tokens(self.conf) -- luacheck: ignore lock
    if not lock then
        return nil, err
    end
    self:refresh(partition)
    if not self:is_half_made(partition) then
        return fail("KFR_EXISTS", ('partition "%s" is in use by now: another program has gone on '
                    .. 'with it'):format(partition.label),
                    "look at it with 'keyferry partition show', then run again")
    end
    return self:delete_partition(partition)
end

--- Removes a partition with everything in it. PKCS#11 has no call for that: only soft HSMs
-- can.
-- @tparam partition partition
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err
function M:delete_partition(partition)
    if not self.conf then
        return fail("KFR_REFUSED",
                    ('HSM "%s" cannot remove a partition through PKCS#11'):format(self.name),
                    "use the vendor's own tool")
    end
    local ok, err = core.softhsm.delete_token(self.conf, partition.serial)
    if not ok then
        return nil, err
    end
    self:close()
    return true
end

-- A signal must leave no partition half made, or half removed.
for _, name in ipairs{ "create_partition", "delete_partition", "delete_half_made" } do
    M[name] = guard.whole(M[name])
end

return M
