-- SPDX-License-Identifier: MIT
-- keyferry.verify finds what is wrong with a backup, whatever it is, names it, says nothing
-- of a good one, and changes neither side.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local object_file = require("support.object_file")
local once = require("support.once")
local shell = require("support.shell")
local store = require("support.store")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local domain = once(function() return assert(core.domain(core.secret("zoo"))) end)

-- A partition and its backup by an engine; tests spoil a copy of the latter.
local function backed(stock, engine, select)
  local pair = { source = zoo.token("source"), target = zoo.token("target") }
  stock(zoo.session(pair.source))
  zoo.close(pair.source)
  local report = keyferry.backup {
    source = zoo.session(pair.source, { writable = false }), target = zoo.session(pair.target),
    domain = domain(), mode = "add", engine = engine, select = select,
  }
  lu.assertEquals(report.status, "success", tostring(report.reason))
  zoo.close(pair.source)
  zoo.close(pair.target)
  return pair
end

-- One object of each sort, for what is to be spoilt.
local function stock_few(session)
  zoo.pair(session, "rsa", "rsa_pkcs_key_pair_gen",
    { modulus_bits = 2048, public_exponent = "\1\0\1", verify = true },
    { sign = true, decrypt = true })
  zoo.pair(session, "other", "rsa_pkcs_key_pair_gen",
    { modulus_bits = 2048, public_exponent = "\1\0\1", verify = true }, { sign = true })
  zoo.pair(session, "ec", "ec_key_pair_gen", { ec_params = zoo.curves["p-256"], verify = true },
    { sign = true, extractable = false })
  zoo.secret(session, "mac", { value = ("m"):rep(32), extractable = false,
    allowed_mechanisms = { "sha256_hmac" } })
  zoo.secret(session, "dated", { value = ("d"):rep(32), start_date = "20200229",
    private = false })
  zoo.secret(session, "secretly dated", { value = ("e"):rep(32), start_date = "20200229" })
  assert(session:generate { mechanism = "aes_key_gen", value_len = 32, label = "kek", id = "\9\9",
    token = true, private = true, sensitive = true, extractable = true, encrypt = true,
    decrypt = true, wrap = true, unwrap_template = { sensitive = true, extractable = false } })
  assert(session:create { class = "data", label = "note", value = "behind the picture",
    application = "spec", token = true, private = true })
  assert(session:create { class = "certificate", certificate_type = "x_509", label = "web",
    token = true, private = false, value = "0\1der", id = "\1\2", subject = "0\0" })
end

local few = once(function() return backed(stock_few, "softhsm") end)

-- A copy of the backup, spoilt inside a session, by its files, or both.
local function spoilt(pair, inside, files)
  local target = zoo.copy(pair.target)
  if inside then
    inside(zoo.session(target))
    zoo.close(target)
  end
  if files then files(target) end
  return { source = pair.source, target = target }
end

local function in_words(result)
  local words = { result.status }
  for _, one in ipairs(result.differences or {}) do
    words[#words + 1] = one.name .. (one.more_rights and "!" or "")
  end
  return table.concat(words, " ")
end

-- Compares, sees that both stores stay as they are; gives the outcome and a sorted line for
-- each object that is not the same: "secret_key mac: differs CKA_SIGN".
local function verify(pair, options)
  local lines = {}
  local before = { store.snapshot(pair.source.hsm.dir), store.snapshot(pair.target.hsm.dir) }
  local all = { on_result = function(result)
    local object = result.object or result.copy
    if result.status ~= "same" then
      table.insert(lines, (object and ("%s %s"):format(object.class, object.label) or result.where)
        .. ": " .. in_words(result))
    end
  end }
  for name, value in pairs(options or {}) do all[name] = value end
  all.source = all.source or zoo.session(pair.source, { writable = false })
  all.target = zoo.session(pair.target, { writable = false })
  local outcome = keyferry.verify(all)
  zoo.close(pair.source)
  zoo.close(pair.target)
  for i, token in ipairs { pair.source, pair.target } do
    lu.assertEquals(store.compare(before[i], store.snapshot(token.hsm.dir),
      { ignore_logins = true }), {})
  end
  table.sort(lines)
  return outcome, lines
end

local function assert_found(pair, expected, options)
  local outcome, lines = verify(pair, options)
  lu.assertEquals(lines, expected)
  lu.assertEquals(outcome.status, "partial")
  return outcome
end

local function assert_good(pair, options)
  local outcome, lines = verify(pair, options)
  lu.assertEquals(lines, {})
  lu.assertEquals(outcome.status, "success", tostring(outcome.reason))
  lu.assertEquals(outcome.differing + outcome.missing + outcome.extra + outcome.failed, 0)
  return outcome
end

local function only(session, filter)
  local found = assert(session:find(filter))
  assert(#found == 1, #found .. " found")
  return found[1]
end

-- Changes an object of a spoilt token, found by its label and class.
local function changing(label, class, changes)
  return function(session)
    assert(only(session, { label = label, class = class }):change(changes))
  end
end

-- Changes the files of objects with that label: edit(object, attributes by type).
local function editing(label, class, edit)
  return function(token)
    local classes = { data = 0, certificate = 1, public_key = 2, private_key = 3, secret_key = 4 }
    for _, found in ipairs(token:labelled(label)) do
      if string.unpack(">I8", found[0].value) == classes[class] then
        local path = token.dir .. "/" .. found.file
        local object = assert(object_file.parse(shell.read(path)))
        edit(object, function(type) return select(2, object_file.get(object, type)) end)
        shell.write(path, object_file.encode(object))
      end
    end
  end
end

-- Untouched pairs --------------------------------------------------------------------------

local TestGood = {}

local everything = once(function()
  return backed(function(session) zoo.stock(session) end, "softhsm")
end)

function TestGood.test_every_kind_through_softhsm()
  local outcome = assert_good(everything())
  lu.assertEquals(outcome.same, #everything().source:files())
  lu.assertEquals({ outcome.lossy, outcome.unproved }, { 0, 0 })
end

function TestGood.test_every_kind_through_softhsm_in_use()
  local outcome = assert_good(everything(), { challenge = true })
  lu.assertEquals(outcome.same, #everything().source:files())
end

function TestGood.test_attributes_that_softhsm_does_not_know()
  local pair = { source = zoo.copy(everything().source), target = zoo.token("target") }
  zoo.estrange(pair.source)
  lu.assertEquals(keyferry.backup { source = zoo.session(pair.source, { writable = false }),
    target = zoo.session(pair.target), domain = domain(), mode = "add" }.status, "success")
  zoo.close(pair.source)
  zoo.close(pair.target)
  assert_good(pair)
  editing("kek", "secret_key", function() end)(pair.target)
  editing("aes 128", "secret_key", function(_, get)
    get(0x80001002).value = string.pack(">I8", 5)
  end)(pair.target)
  editing("aes 192", "secret_key", function(_, get)
    get(0x80001003).value = get(0x3).value
  end)(pair.target)
  editing("certificate public", "certificate", function(_, get)
    get(0x80001004).value = ""
  end)(pair.target)
  assert_found(pair, { "certificate certificate public: differs CKA_0x80001004",
    "secret_key aes 128: differs CKA_0x80001002" })
end

-- What C_WrapKey takes; the others are not on the target.
local function wrappable(object)
  return object:has("extractable") and not object:has("wrap_with_trusted")
    and object.key_type ~= "ec_edwards"
    or object.class ~= "private_key" and object.class ~= "secret_key"
end

local function wrap_copy()
  local pair = { source = everything().source, target = zoo.token("target") }
  keyferry.backup { source = zoo.session(pair.source, { writable = false }),
    target = zoo.session(pair.target), domain = domain(), mode = "add", engine = "wrap" }
  zoo.close(pair.source)
  zoo.close(pair.target)
  return pair
end

local wrapped = once(wrap_copy)

function TestGood.test_every_kind_through_wrap()
  for _, challenge in ipairs { false, true } do
    local options = { engine = "wrap", challenge = challenge, select = function(object)
      return wrappable(object) or object.label == "ed25519 readable"
    end }
    local outcome = assert_good(wrapped(), options)
    lu.assertEquals(outcome.same, #wrapped().target:files())
    lu.assertTrue(outcome.lossy > 50)
  end
end

function TestGood.test_what_wrap_could_not_take_is_missing()
  local outcome = verify(wrapped(), { engine = "wrap" })
  lu.assertEquals({ outcome.same, outcome.missing, outcome.differing }, { 91, 11, 0 })
end

function TestGood.test_what_wrap_loses_is_a_difference_where_the_store_could_have_kept_it()
  local _, lines = verify(wrapped(), { select = { label = "ed25519 readable" } })
  lu.assertEquals(lines, {
    "private_key ed25519 readable: differs CKA_KEY_GEN_MECHANISM CKA_LOCAL",
    "public_key ed25519 readable: differs CKA_KEY_GEN_MECHANISM CKA_LOCAL" })
end

function TestGood.test_two_empty_partitions_are_the_same()
  local outcome = assert_good { source = zoo.token("source"), target = zoo.token("target") }
  lu.assertEquals(outcome.same, 0)
end

-- Two wholly alike, two that differ in their key alone, one key under two names, and labels
-- twice.
local function stock_likes(session)
  for _ = 1, 2 do
    zoo.secret(session, "like", { value = ("l"):rep(32), id = "same" })
    assert(session:create { class = "data", label = "like", value = "l", token = true })
  end
  for i = 1, 3 do
    zoo.secret(session, "twin", { value = ("t"):rep(31) .. i, id = "same" })
    zoo.secret(session, "twin", { value = ("t"):rep(31) .. i, id = "id" .. i })
    zoo.secret(session, "name " .. i, { value = ("n"):rep(32), id = "" })
  end
end

local likes = once(function() return backed(stock_likes, "softhsm") end)

function TestGood.test_likes_twins_and_one_key_under_many_names()
  lu.assertEquals(assert_good(likes()).same, 13)
  lu.assertEquals(assert_good(likes(), { challenge = true }).same, 13)
  local pair = backed(stock_likes, "wrap")
  lu.assertEquals(assert_good(pair, { engine = "wrap" }).same, 13)
end

function TestGood.test_each_of_several_likes_stands_for_one()
  assert_found(spoilt(likes(), function(session)
    assert(session:find({ label = "like", class = "secret_key" })[1]:destroy())
    assert(session:find({ label = "twin", id = "same" })[2]:destroy())
    assert(only(session, { label = "name 2" }):change { label = "name 4" })
  end), { "secret_key like: missing", "secret_key name 2: differs CKA_LABEL",
    "secret_key twin: missing" })
end

-- A backup whose policy changes something, and what its report then says.
local function reported(options)
  local pair = { source = few().source, target = zoo.token("target") }
  local file = tmp.dir("report") .. "/report.json"
  keyferry.backup { source = zoo.session(pair.source, { writable = false }),
    target = zoo.session(pair.target), domain = domain(), mode = "add", engine = options.engine,
    changes = options.changes, report = assert(keyferry.report.create(file)) }
  zoo.close(pair.source)
  zoo.close(pair.target)
  return pair, assert(keyferry.report.read(file, domain()))
end

function TestGood.test_a_report_says_what_the_policy_has_changed()
  local pair, report = reported { changes = function(object)
    return object.label == "kek" and { label = "old kek", wrap = false } or nil
  end }
  local options = { source = report, domain = domain() }
  lu.assertEquals(assert_good(pair, options).same, 12)
  options.challenge = true
  lu.assertEquals(assert_good(pair, options).same, 12)
  local _, lines = verify(pair)
  lu.assertEquals(lines, { "secret_key kek: differs CKA_LABEL CKA_WRAP" })
end

function TestGood.test_a_report_says_what_the_backup_could_not_hold()
  local pair, report = reported { engine = "wrap" }
  local reasons = {}
  local outcome, lines = verify(pair, { source = report, domain = domain(), engine = "wrap",
    on_result = function(result) reasons[#reasons + 1] = result.reason end })
  lu.assertEquals({ outcome.same, outcome.missing }, { 10, 2 })
  lu.assertEquals({ #reasons, #lines }, { 2, 0 })
  lu.assertStrContains(reasons[1], "CKA_EXTRACTABLE is false")
end

-- What is wrong ----------------------------------------------------------------------------

local TestFindings = {}

function TestFindings.test_the_pair_to_spoil_is_good()
  assert_good(few())
  assert_good(few(), { challenge = true })
end

function TestFindings.test_one_is_missing()
  local outcome = assert_found(spoilt(few(), function(session)
    assert(only(session, { label = "mac" }):destroy())
  end), { "secret_key mac: missing" })
  lu.assertEquals({ outcome.same, outcome.missing }, { 11, 1 })
end

function TestFindings.test_one_is_extra()
  assert_found(spoilt(few(), function(session)
    zoo.secret(session, "mac", { value = ("x"):rep(32), id = "new" })
    assert(session:create { class = "data", label = "note", value = "", token = true })
  end), { "data note: extra", "secret_key mac: extra" })
end

local function remaking_note(value, application)
  return function(session)
    assert(only(session, { label = "note" }):destroy())
    assert(session:create { class = "data", label = "note", value = value,
      application = application, token = true, private = true })
  end
end

function TestFindings.test_an_attribute_of_each_kind()
  local cases = {
    { "secret_key mac: differs CKA_SIGN", changing("mac", nil, { sign = false }) },
    { "secret_key mac: differs CKA_LABEL", changing("mac", nil, { label = "mac 2" }) },
    { "secret_key mac: differs CKA_ID", changing("mac", nil, { id = "another" }) },
    { "certificate web: differs CKA_SUBJECT", nil, editing("web", "certificate",
      function(_, get) get(0x101).value = "0\1x" end) },
    { "secret_key dated: differs CKA_START_DATE", nil, editing("dated", "secret_key",
      function(_, get) get(0x110).value = "20200228" end) },
    { "secret_key kek: differs CKA_VALUE_LEN", nil, editing("kek", "secret_key",
      function(_, get) get(0x161).value = string.pack(">I8", 16) end) },
    { "secret_key kek: differs CKA_UNWRAP_TEMPLATE!", nil, editing("kek", "secret_key",
      function(_, get) get(0x40000212).value = "" end) },
    { "secret_key mac: differs CKA_ALLOWED_MECHANISMS!", nil, editing("mac", "secret_key",
      function(_, get) get(0x40000600).value = string.pack(">I8I8", 0x251, 0x261) end) },
    { "data note: differs CKA_VALUE", remaking_note("in the drawer", "spec") },
    { "data note: differs CKA_APPLICATION", remaking_note("behind the picture", "none") },
    { "secret_key secretly dated: differs CKA_START_DATE", nil,
      editing("secretly dated", "secret_key",
        function(_, get) get(0x110).value = get(0x3).value end) },
  }
  for _, case in ipairs(cases) do
    assert_found(spoilt(few(), case[2], case[3]), { case[1] })
  end
end

function TestFindings.test_more_rights_on_the_copy()
  local function flag(label, class, type, value)
    return editing(label, class, function(_, get) get(type).value = value end)
  end
  local cases = {
    { "secret_key mac: differs CKA_EXTRACTABLE!", flag("mac", "secret_key", 0x162, "\255") },
    { "private_key ec: differs CKA_SENSITIVE!", flag("ec", "private_key", 0x103, "\0") },
    { "private_key ec: differs CKA_DERIVE!", flag("ec", "private_key", 0x10c, "\255") },
    { "secret_key kek: differs CKA_WRAP", flag("kek", "secret_key", 0x106, "\0") },
  }
  for _, case in ipairs(cases) do
    assert_found(spoilt(few(), nil, case[2]), { case[1] })
  end
end

function TestFindings.test_a_key_replaced_by_another_of_the_same_label_and_id()
  assert_found(spoilt(few(), function(session)
    local old = only(session, { label = "mac" })
    zoo.secret(session, "mac", { value = ("x"):rep(32), id = old.id, extractable = false,
      allowed_mechanisms = { "sha256_hmac" } })
    assert(old:destroy())
    for _, key in ipairs(session:find { label = "ec" }) do assert(key:destroy()) end
    local public, private = zoo.pair(session, "ec", "ec_key_pair_gen",
      { ec_params = zoo.curves["p-256"], verify = true }, { sign = true, extractable = false })
    local original = only(zoo.session(few().source, { writable = false }),
      { label = "ec", class = "private_key" })
    assert(public:change { id = original.id })
    assert(private:change { id = original.id })
  end), { "private_key ec: differs key material", "public_key ec: differs CKA_EC_POINT",
    "secret_key mac: differs CKA_CHECK_VALUE key material" })
end

-- The private numbers of one key in the file of the other: both are encrypted with the same
-- key of the token.
local function swap_numbers(token)
  local other
  editing("other", "private_key", function(object) other = object end)(token)
  editing("rsa", "private_key", function(_, get)
    for type = 0x123, 0x128 do get(type).value = object_file.get(other, type) end
  end)(token)
end

function TestFindings.test_a_key_that_does_not_work()
  local pair = spoilt(few(), nil, swap_numbers)
  assert_found(pair, { "private_key rsa: differs key material" })
  assert_found(pair, { "private_key rsa: differs key material" }, { challenge = true })
  assert_found(pair, { "private_key rsa: differs work" },
    { challenge = true, source_engine = "wrap" })
end

function TestFindings.test_a_key_that_does_not_work_is_found_without_its_original()
  local pair = spoilt(few(), nil, swap_numbers)
  local key = only(zoo.session(pair.target, { writable = false }),
    { label = "rsa", class = "private_key" })
  lu.assertFalse(core.challenge(key, key))
  local whole = only(zoo.session(pair.target, { writable = false }),
    { label = "other", class = "private_key" })
  lu.assertTrue(core.challenge(whole, whole))
  zoo.close(pair.target)
end

local function cut_file(label)
  return function(token)
    local path = token.dir .. "/" .. token:labelled(label)[1].file
    shell.write(path, shell.read(path):sub(1, -20))
  end
end

function TestFindings.test_a_damaged_file_of_the_target()
  assert_found(spoilt(few(), nil, cut_file("mac")), { "secret_key mac: missing",
    "target: failed" })
end

function TestFindings.test_a_damaged_file_of_the_source()
  local pair = { source = zoo.copy(few().source), target = zoo.copy(few().target) }
  cut_file("mac")(pair.source)
  assert_found(pair, { "secret_key mac: extra", "source: failed" })
end

function TestFindings.test_an_object_without_its_key_on_the_target()
  local pair = spoilt(few(), nil, editing("mac", "secret_key", function(object)
    for i = #object.records, 1, -1 do
      if object.records[i].type == 0x11 then table.remove(object.records, i) end
    end
  end))
  assert_found(pair, { "secret_key mac: failed" })
end

function TestFindings.test_domains_that_differ()
  local pair = { source = zoo.copy(few().source), target = zoo.copy(few().target) }
  assert(zoo.session(pair.source):install_domain(domain()))
  zoo.close(pair.source)
  assert_good(pair)
  assert(zoo.session(pair.target):install_domain(assert(core.domain(core.secret("another")))))
  zoo.close(pair.target)
  assert_found(pair, { "target: failed" })
  assert_found(pair, { "target: failed" }, { engine = "wrap", select = { label = "web" } })
end

function TestFindings.test_an_unfinished_backup()
  assert_found(spoilt(few(), function(session) assert(session:mark_unfinished("100001 x")) end),
    { "target: failed" })
end

function TestFindings.test_only_what_is_selected_is_told()
  local pair = spoilt(few(), function(session)
    assert(only(session, { label = "mac" }):change { label = "cam" })
    zoo.secret(session, "extra", { value = ("x"):rep(32) })
    assert(only(session, { label = "note" }):destroy())
  end)
  lu.assertEquals(assert_good(pair, { select = "rsa" }).same, 2)
  assert_found(pair, { "secret_key mac: differs CKA_LABEL" }, { select = "mac" })
  assert_found(pair, { "secret_key extra: extra" }, { select = "e*" })
  local outcome = verify(pair, { select = "nothing" })
  lu.assertEquals({ outcome.status, outcome.reason.code }, { "failed", "KFR_NOT_FOUND" })
end

function TestFindings.test_the_way_back_is_compared_like_the_way_there()
  local pair = spoilt(few(), function(session)
    assert(only(session, { label = "mac" }):destroy())
  end)
  assert_found({ source = pair.target, target = pair.source }, { "secret_key mac: extra" })
end

-- Wrong use --------------------------------------------------------------------------------

local TestUse = {}

function TestUse.test_wrong_use_raises_at_the_line_of_the_caller()
  local session = zoo.session(few().source, { writable = false })
  for _, case in ipairs {
    { {}, "needs a source" }, { { source = session }, "needs a target" },
    { { source = session, target = session, mode = "add" }, "no option 'mode'" },
    { { source = 5, target = session }, "must be a session, a stream, or a report" },
    { { source = session, target = session, on_result = 5 }, "on_result must be a function" },
    { { source = session, target = session, select = { nothing = 5 } }, "is not an attribute" },
  } do
    local ok, problem = pcall(keyferry.verify, case[1])
    lu.assertFalse(ok)
    lu.assertStrContains(problem, case[2])
  end
  zoo.close(few().source)
end

function TestUse.test_a_hook_that_fails_is_the_callers_and_progress_comes_to_its_end()
  local last
  assert_good(few(), { on_progress = function(done, total) last = { done, total } end })
  lu.assertEquals(last[1], last[2])
  local ok, problem = pcall(verify, few(), { on_result = function() error("mine", 0) end })
  lu.assertEquals({ ok, problem }, { false, "mine" })
end

return { TestGood = TestGood, TestFindings = TestFindings, TestUse = TestUse }
