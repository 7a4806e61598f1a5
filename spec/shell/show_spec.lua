-- SPDX-License-Identifier: MIT
-- Values as a person reads them: what is seen, and what never is.
local lu = require("luaunit")
local build = require("support.build")
local core = require("keyferry.core")
local keyferry = require("keyferry")
local show = require("keyferry.shell.show")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local EVIL = "a\27[31m\nb\u{202e}\xff\0c"
local CLEANED = "a\\x1B[31m\\x0Ab\\xE2\\x80\\xAE\\xFF\\x00c"

local function lines(...)
  return table.concat({ ... }, "\n")
end

-- Nothing that a terminal would act on, but for line breaks.
local function assert_clean(shown)
  lu.assertNil(shown:find("[\0-\9\11-\31\127]"), shown)
  lu.assertNotNil(utf8.len(shown), shown)
  lu.assertNil(shown:find("\u{202e}", 1, true), shown)
end

local token, session, key, data

-- One token for all: an AES key, a private data object and an EC pair.
local function scene()
  if token then return end
  token = zoo.token("shown")
  session = zoo.session(token)
  key = assert(session:generate { mechanism = "aes_key_gen", value_len = 32, label = EVIL,
    id = "\1\171", token = true, private = true, sensitive = true, extractable = true,
    encrypt = true, decrypt = true, sign = false, verify = false, wrap = false, unwrap = false })
  data = assert(session:create { class = "data", label = "notes", value = "MY PRIVATE NOTE",
    token = true, private = true })
end

local TestObjects = {}

function TestObjects.test_a_session_says_with_what_who_and_how()
  scene()
  lu.assertEquals(show.value(session), lines('session with partition "shown"',
    "  Serial:     " .. token.serial,
    "  Logged in:  Crypto Officer (user)",
    "  Access:     read/write"))
  local other = assert(token.module:session(zoo.slot(token.module, token)))
  lu.assertStrContains(show.value(other), "Access:     read-only")
  other:close()
  lu.assertEquals(show.value(other), "session (closed)")
end

function TestObjects.test_looking_logs_nobody_in()
  local alone = zoo.token("alone")
  local module <close> = zoo.module(alone.hsm)
  local mute <close> = assert(module:session(zoo.slot(module, alone)))
  lu.assertStrContains(show.value(mute), "Logged in:  nobody")
  lu.assertNil(mute:user())
end

function TestObjects.test_an_object_says_what_matters()
  scene()
  lu.assertEquals(show.value(key), lines(('secret key "%s"'):format(CLEANED),
    "  Class:       secret_key",
    "  Key type:    aes (256 bits)",
    "  Label:       " .. CLEANED,
    "  Id:          01ab",
    "  Handle:      " .. key.handle,
    "  May:         encrypt, decrypt",
    "  Protection:  private, sensitive, always sensitive, extractable, local"))
end

function TestObjects.test_what_weakens_a_key_is_said()
  scene()
  local weak = assert(session:create { class = "secret_key", key_type = "generic_secret",
    value = "0123456789abcdef", sensitive = false, extractable = false, token = false })
  local shown = show.value(weak)
  lu.assertStrContains(shown, "not extractable, not sensitive")
  lu.assertStrContains(shown, "the object goes with it")
  lu.assertNil(shown:find("0123456789abcdef", 1, true))
  lu.assertNil(shown:find("30313233", 1, true))
  assert(weak:destroy())
end

function TestObjects.test_attributes_are_sorted_and_no_secret_is_among_them()
  scene()
  local shown = show.value(key:attributes())
  local names = {}
  for name in shown:gmatch("([%w_]+):[^\n]*") do table.insert(names, name) end
  local sorted = table.move(names, 1, #names, 1, {})
  table.sort(sorted)
  lu.assertEquals(names, sorted)
  lu.assertTrue(#names > 20)
  lu.assertStrContains(shown, "\nid:                  01ab\n")
  lu.assertStrContains(shown, "\nkey_gen_mechanism:   aes_key_gen\n")
  lu.assertStrContains(shown, "\nencrypt:             true\n")
  lu.assertNil(shown:find("\nvalue:", 1, true))
  shown = show.value(data:attributes())
  lu.assertStrContains(shown, '\nlabel:        "notes"\n')
  lu.assertNil(shown:find("NOTE", 1, true))
end

function TestObjects.test_key_material_in_a_template_is_not_shown_however_deep()
  for _, value in ipairs {
    { class = "secret_key", value = "TOPSECRET", label = "x" },
    { class = "private_key", private_exponent = "TOPSECRET", prime_1 = "TOPSECRET" },
    { class = "data", private = true, value = "TOPSECRET" },
    { a = { b = { class = "secret_key", value = "TOPSECRET" } } },
    { { class = "secret_key", value = "TOPSECRET", mechanism = "x" } },
  } do
    local shown = show.value(value)
    lu.assertStrContains(shown, "(secret)")
    lu.assertNil(shown:find("TOPSECRET", 1, true), shown)
    lu.assertNil(shown:find("544f50", 1, true), shown)
  end
  lu.assertEquals(show.value(core.secret("TOPSECRET")), "secret")
  lu.assertEquals(show.value({ pin = core.secret("TOPSECRET") }), "{ pin = secret }")
end

function TestObjects.test_bytes_dates_and_mechanisms_in_attributes()
  lu.assertEquals(show.value({ class = "public_key", start_date = "20261124", end_date = "",
      modulus = ("\1"):rep(256), label = "ä", id = ("\2"):rep(20), token = true,
      allowed_mechanisms = { "rsa_pkcs", "CKM_0x80000001" }, CKA_0x80000001 = "\27[2J",
      unwrap_template = { class = "secret_key", extractable = false } }),
    lines("CKA_0x80000001:      1b5b324a",
      "allowed_mechanisms:  rsa_pkcs, CKM_0x80000001",
      "class:               public_key",
      "end_date:            (empty)",
      "id:                  " .. ("02"):rep(20),
      'label:               "ä"',
      "modulus:             " .. ("01"):rep(16) .. "... (256 bytes)",
      "start_date:          2026-11-24",
      "token:               true",
      'unwrap_template:     { class = "secret_key", extractable = false }'))
end

function TestObjects.test_objects_are_columns()
  scene()
  lu.assertEquals(show.value({ key, data }), lines(
    "Class       Key type  Label" .. (" "):rep(#CLEANED - 3) .. "Id    Handle",
    "secret_key  aes       " .. CLEANED .. "  01ab  " .. key.handle,
    "data        -         notes" .. (" "):rep(#CLEANED - 3) .. "-     " .. data.handle))
  for line in show.value({ key, data }, { width = 30 }):gmatch("[^\n]+") do
    lu.assertTrue(#line <= 30, line)
  end
end

function TestObjects.test_a_sealed_object_tells_what_its_head_says()
  scene()
  local domain = assert(core.domain(core.secret("shown")))
  local sealed
  do
    local from <close> = assert(session:endpoint("softhsm", domain))
    sealed = assert(from:seal(key))
  end
  lu.assertEquals(show.value(domain), "domain " .. domain:check())
  lu.assertEquals(show.value(sealed), lines("sealed object",
    "  Version:   1",
    "  Engine:    softhsm",
    "  Class:     secret_key",
    "  Key type:  aes (256 bits)",
    "  Label:     " .. CLEANED,
    "  Id:        01ab",
    "  From:      token with serial " .. token.serial,
    "  Exact:     yes",
    "  Domain:    " .. domain:check(),
    ("  Size:      %d bytes"):format(#sealed)))
  local bytes = sealed:bytes()
  sealed:close()
  domain:close()
  lu.assertEquals(show.value(sealed), "sealed object (closed)")
  lu.assertEquals(show.value(domain), "domain (closed)")
  lu.assertStrContains(show.value(core.sealed(bytes:sub(1, -2))), "KFR_DAMAGED")
end

function TestObjects.test_what_is_closed_says_so()
  local spoilt = zoo.token("spoilt")
  local one = zoo.session(spoilt)
  local object = assert(one:generate { mechanism = "aes_key_gen", value_len = 16, label = "k" })
  local pair = { object, object }
  one:close()
  lu.assertStrContains(show.value(object), 'secret key "k"')
  lu.assertStrContains(show.value(object), "Session:     closed")
  lu.assertStrContains(show.value(pair), "secret_key")
  local other = assert(spoilt.module:session(zoo.slot(spoilt.module, spoilt)))
  spoilt.module:close()
  lu.assertEquals(show.value(spoilt.module), "module (closed)")
  lu.assertEquals(show.value(other), "session (closed)")
  lu.assertStrContains(show.value(object), "Session:     closed")
end

local TestHsms = {}

local hsm, partition

local function own_hsm()
  if hsm then return end
  keyferry.configure { home = tmp.memory("show") }
  hsm = assert(keyferry.create_hsm { name = "prod", serial = "4711" })
end

function TestHsms.test_an_hsm_says_where_it_is_and_is_not_started()
  own_hsm()
  local shown = show.value(hsm)
  lu.assertEquals(shown, lines('HSM "prod"', "  Serial:  4711", "  Kind:    soft HSM",
    "  Where:   " .. hsm.path, "  Module:  " .. build.softhsm(), "  Loaded:  no"))
  lu.assertNil(hsm.loaded)
  lu.assertStrMatches(show.value({ hsm }),
    "HSM   Serial  Kind  Where\nprod  4711    soft  " .. (hsm.path:gsub("%p", "%%%0")))
end

function TestHsms.test_a_partition_says_whose_it_is_and_what_state_it_is_in()
  own_hsm()
  partition = partition or assert(hsm:create_partition { label = "pay",
    so_password = core.secret("12345678"), password = core.secret("1234") })
  lu.assertEquals(show.value(partition), lines('partition "pay"',
    "  Serial:       " .. partition.serial,
    "  HSM:          prod",
    "  Initialised:  yes",
    "  URI:          " .. partition.uri))
  lu.assertEquals(show.value({ partition }),
    ("Partition  Serial            HSM   Free space\npay        %s  prod  -")
      :format(partition.serial))
  local kept = partition.token
  partition.token = { initialized = true, free_private = 10, total_private = 20,
    user_pin_locked = true, protected_path = true }
  local shown = show.value(partition)
  lu.assertStrContains(shown, "yes, but it has no user PIN")
  lu.assertStrContains(shown, "Free space:   10 bytes of 20 private")
  lu.assertStrContains(shown, "PINs by a trusted path, user PIN locked")
  partition.token = kept
  hsm:close()
  lu.assertStrContains(show.value(partition), 'partition "pay"')
end

local TestRuns = {}

function TestRuns.test_an_error_is_a_line_and_what_to_do()
  lu.assertEquals(show.value(core.error { code = "KFR_EXISTS", what = "there is one\27[2J",
    hint = "take another" }), "there is one\\x1B[2J\n  take another")
end

function TestRuns.test_a_report_is_its_counts_and_reason()
  local report = { status = "partial", cloned = 3, exists = 0, failed = 1, skipped = 0,
    removed = 0, unproved = 0, lossy = 2, created = true,
    reason = core.error { code = "KFR_EXISTS", what = "why" } }
  lu.assertEquals(show.value(report), lines("backup: partial", "  Counts:   cloned 3, failed 1",
    "  Created:  a new partition", "  Lossy:    2", "  Reason:   why"))
end

function TestRuns.test_a_report_of_what_was_sent()
  local report = { status = "success", cloned = 0, sealed = 12, exists = 0, failed = 0,
    skipped = 1, removed = 0, unproved = 0, lossy = 0 }
  lu.assertEquals(show.value(report), lines("send: success", "  Counts:  sealed 12, skipped 1"))
end

function TestRuns.test_a_plan_is_a_table_of_what_would_happen_and_why()
  scene()
  local long = ("because of this "):rep(10)
  local plan = setmetatable({ mode = "add", counts = { clone = 1, fail = 1 }, items = {
    { object = key, status = "clone" },
    { object = data, status = "fail", err = core.error { code = "KFR_EXISTS", what = long } },
  } }, { __tostring = function() return "plan" end })
  local shown = show.value(plan, { width = 40 })
  lu.assertStrMatches(shown, "Status  Class       Key type  Label .*Reason\n.*")
  lu.assertStrMatches(shown, ".*\nclone   secret_key  aes .*01ab .*")
  lu.assertStrContains(shown, (long:gsub(" $", "")))
  lu.assertStrMatches(shown, ".*\nplan %(add%): clone 1, fail 1")
end

local TestPlain = {}

function TestPlain.test_simple_values()
  for shown, value in pairs({ ["1"] = 1, ["1.5"] = 1.5, ["true"] = true, ["{}"] = {},
    ["{ 1, 2, a = \"b\" }"] = { 1, 2, a = "b" }, ["{ [2.5] = 2, [\"a b\"] = 1 }"]
    = { ["a b"] = 1, [2.5] = 2 }, ["function (built in)"] = print }) do
    lu.assertEquals(show.value(value), shown)
  end
  lu.assertEquals(show.value(nil), "nil")
  lu.assertStrMatches(show.value(scene), "function %(spec/shell/show_spec.lua:%d+%)")
end

function TestPlain.test_several_values_and_no_error()
  lu.assertEquals(show.values({}, 1, "a"), "1\ta")
  lu.assertEquals(show.values({}, "a\nb", 1), "a\nb\n1")
  lu.assertEquals(show.values({}, 1, nil), "1")
  lu.assertEquals(show.values({}, nil, 1), "nil\t1")
  lu.assertEquals(show.values({}, nil), "nil")
end

function TestPlain.test_a_text_is_itself_and_bytes_are_shortened_with_their_length()
  local long = ("ä line\n\tof it "):rep(1000)
  lu.assertEquals(show.value(long), long)
  lu.assertEquals(show.value("a\27[2J\rb"), "a\\x1B[2J\\x0Db")
  local shown = show.value(("\0\255"):rep(5000))
  lu.assertStrMatches(shown, "\\x00\\xFF.*%.%.%. %(10000 bytes%)")
  lu.assertTrue(#shown < 2000)
  lu.assertEquals(show.value(("\27[1mx"):rep(500)), ("\\x1B[1mx"):rep(500))
  lu.assertTrue(#show.value(("\27[1mx"):rep(1000000)) < 2000)
  lu.assertStrContains(show.value({ ("x"):rep(5000) }), 'xxx..." (5000 bytes)')
end

function TestPlain.test_tables_end_somewhere()
  local loop = {}
  loop.itself, loop.list = loop, { loop }
  lu.assertEquals(show.value(loop), "{ itself = { ... itself }, list = { { ... itself } } }")
  local deep = {}
  for _ = 1, 100000 do deep = { deep } end
  lu.assertStrContains(show.value(deep), "{ ... }")
  local wide, tree = {}, {}
  for i = 1, 100000 do wide[i] = i end
  lu.assertStrContains(show.value(wide), "... 99900 more")
  for i = 1, 90 do
    tree[i] = {}
    for j = 1, 90 do tree[i][j] = table.pack(table.unpack(wide, 1, 90)) end
  end
  lu.assertTrue(#show.value(tree) < 20000)
  local same = { 1 }
  lu.assertEquals(show.value({ same, same }), "{ { 1 }, { 1 } }")
end

function TestPlain.test_what_a_value_throws_stays_with_it()
  local function throw() error("no\27[2J") end
  lu.assertStrMatches(show.value(setmetatable({}, { __tostring = throw })),
    "table %(it cannot be shown: .*no\\x1B%[2J%)")
  lu.assertStrContains(show.value({ setmetatable({}, { __tostring = function() return {} end }) }),
    "it cannot be shown")
  lu.assertEquals(show.value(setmetatable({ 1, a = 2 }, { __index = throw, __len = throw,
    __pairs = throw, __eq = throw, __metatable = throw })), "{ 1, a = 2 }")
  lu.assertStrMatches(show.value(setmetatable({}, { __name = "keyferry.session" })),
    "keyferry.session: 0x%x+")
  lu.assertStrContains(show.value(setmetatable({}, { __tostring = function()
    error(setmetatable({}, { __tostring = throw })) end })), "it cannot be shown: table")
  for _, class in ipairs { "keyferry.hsm", "keyferry.partition" } do
    local fake = setmetatable({ name = {}, label = 1, token = "x", hsm = 7, uri = {} },
      require(class))
    lu.assertStrMatches(show.value(fake), '%w+ "%?".*')
    lu.assertStrMatches(show.value({ fake }), ".*\n%-.*")
  end
  lu.assertStrMatches(show.value(io.stdout), "file .*")
  lu.assertStrMatches(show.value(coroutine.create(print)), "thread: .*")
end

function TestPlain.test_an_interrupt_goes_through()
  local stop = core.error { code = "KFR_INTERRUPTED", what = "interrupted" }
  local ok, err = pcall(show.value, setmetatable({}, { __tostring = function() error(stop) end }))
  lu.assertFalse(ok)
  lu.assertIs(err, stop)
end

function TestPlain.test_no_control_sequence_reaches_the_terminal()
  scene()
  own_hsm()
  local named = setmetatable({ name = EVIL, serial = EVIL, path = EVIL },
    require("keyferry.hsm"))
  for _, value in ipairs { EVIL, { EVIL }, { [EVIL] = EVIL }, key, { key }, named, { named },
    key:attributes(), { class = EVIL, label = EVIL, key_type = EVIL, [EVIL] = 1 },
    { class = EVIL, label = EVIL, key_type = EVIL, url = EVIL, allowed_mechanisms = { EVIL } },
    setmetatable({}, { __tostring = function() return EVIL end }),
    setmetatable({}, { __name = EVIL }), load("return 1", "=" .. EVIL),
    { status = EVIL, cloned = 1, failed = 0, reason = EVIL },
    { { slot = 1, present = true, label = EVIL, serial = EVIL } },
  } do
    assert_clean(show.value(value))
    local coloured = show.value(value, { colour = true, width = 60 })
    assert_clean((coloured:gsub("\27%[%d+m", "")))
  end
end

return { TestObjects = TestObjects, TestHsms = TestHsms, TestRuns = TestRuns,
  TestPlain = TestPlain }
