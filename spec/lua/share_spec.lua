-- SPDX-License-Identifier: MIT
-- Shares: the published vectors, those of keyferry that are good for ever, and what is said of
-- shares that do not go together and of words that are none.
local lu = require("luaunit")

local build = require("support.build")
local core = require("keyferry.core")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local share = core.share
local vectors = dofile("spec/fixtures/slip39.lua")
local fixtures = dofile("spec/fixtures/shares.lua")

local function bytes(hex)
  return core.secret((hex:gsub("..", function(digits)
    return string.char(tonumber(digits, 16))
  end)))
end

local function parse(words)
  return share.parse(core.secret(words))
end

-- The words of all, each parsed; or nil and why one is none.
local function parse_all(list)
  local shares = {}
  for i, words in ipairs(list) do
    local one, err = parse(words)
    if not one then return nil, err end
    shares[i] = one
  end
  return shares
end

local function refused(what, result, err)
  lu.assertNil(result)
  lu.assertEquals(err.code, "KFR_SHARE", err.what)
  lu.assertStrContains(err.what, what)
  return err
end

-- The words of a share, as only a spec may have them.
local function words_of(one)
  local path = tmp.dir() .. "/share"
  assert(one:write(path))
  local words = {}
  for word in shell.read(path):match("\n\n(.*)"):gmatch("%S+") do words[#words + 1] = word end
  return words
end

local by_number = {}
for _, vector in ipairs(vectors) do by_number[vector.number] = vector end

local TestVectors = {}

for _, vector in ipairs(vectors) do
  local function master()
    local shares, err = parse_all(vector.shares)
    if not shares then return nil, err end
    return share.master(shares, core.secret("TREZOR"))
  end
  local name = vector.name:lower():gsub("%W+", "_"):gsub("_$", "")
  TestVectors[("test_%02d_%s"):format(vector.number, name)] = function()
    if vector.secret then
      lu.assertTrue(assert(master()) == bytes(vector.secret))
    else
      refused(vector.says, master())
    end
  end
end

function TestVectors.test_another_passphrase_is_another_secret()
  local shares = parse_all(by_number[1].shares)
  local secret = bytes(by_number[1].secret)
  lu.assertFalse(share.master(shares) == secret)
  lu.assertFalse(share.master(shares, core.secret("trezor")) == secret)
  local _, err = share.master(shares, core.secret("TRÄZOR"))
  lu.assertEquals(err.code, "KFR_ARGUMENT")
end

local TestFixtures = {}

for colour, fixture in pairs(fixtures) do
  TestFixtures["test_" .. colour .. "_stands_for_what_it_stood_for"] = function()
    local shares = parse_all(fixture.shares)
    local n = #shares
    for first = 1, n - fixture.needed + 1 do
      local some = table.move(shares, first, first + fixture.needed - 1, 1, {})
      lu.assertTrue(share.master(some) == bytes(fixture.master))
      lu.assertTrue(share.combine(some) == core.secret(fixture.secret))
    end
    if fixture.check then
      lu.assertEquals(share.check(core.secret(fixture.secret)), fixture.check)
    end
    for i, one in ipairs(shares) do
      lu.assertEquals({ one:colour(), one:set(), one:number(), one:needed(), one:count() },
        { colour, fixture.set, i, fixture.needed, nil })
      lu.assertEquals(one:groups(), { count = 1, threshold = 1, number = 1 })
    end
  end
end

local TestMaking = {}

-- All ways to take m of a list.
local function choices(list, m, from, taken, found)
  from, taken, found = from or 1, taken or {}, found or {}
  if #taken == m then
    found[#found + 1] = table.move(taken, 1, m, 1, {})
    return found
  end
  for i = from, #list do
    taken[#taken + 1] = list[i]
    choices(list, m, i + 1, taken, found)
    taken[#taken] = nil
  end
  return found
end

function TestMaking.test_any_m_of_n_give_the_key_and_no_two_keys_are_the_same()
  local seen = {}
  for _, numbers in ipairs { { 1, 1 }, { 2, 2 }, { 2, 3 }, { 3, 5 }, { 16, 16 } } do
    for _, colour in ipairs { "blue", "black", "red" } do
      local shares = assert(share.create { colour = colour, m = numbers[1], n = numbers[2] })
      lu.assertEquals(#shares, numbers[2])
      lu.assertEquals({ shares[1]:colour(), shares[1]:length(), shares[1]:needed(),
        shares[numbers[2]]:number(), shares[1]:count() },
        { colour, 33, numbers[1], numbers[2], numbers[2] })
      local key = assert(share.combine(table.move(shares, 1, numbers[1], 1, {})))
      for _, some in ipairs(choices(shares, numbers[1])) do
        lu.assertTrue(assert(share.combine(some)) == key)
      end
      lu.assertNil(seen[share.check(key)])
      seen[share.check(key)] = true
    end
  end
end

function TestMaking.test_a_domain_text_comes_back_to_the_byte()
  for _, text in ipairs { "x", "river of stones", ("\0\255"):rep(125), "bäche", ("x"):rep(249) } do
    local shares = assert(share.split(core.secret(text), { m = 2, n = 3 }))
    lu.assertEquals(shares[1]:colour(), "domain")
    for _, some in ipairs(choices(shares, 2)) do
      lu.assertTrue(assert(share.combine(some)) == core.secret(text))
    end
    lu.assertTrue(share.combine { parse(table.concat(words_of(shares[3]), " ")), shares[1] }
      == core.secret(text))
  end
end

-- Else who has M-1 shares of a text that can be guessed could tell that a guess is right.
function TestMaking.test_a_domain_text_is_split_with_random_bytes()
  local text = core.secret("river of stones")
  local one = share.split(text, { m = 1, n = 1 })
  local other = share.split(text, { m = 1, n = 1 })
  lu.assertEquals(one[1]:length(), 7 + math.ceil((1 + 15 + 8) * 8 / 10))
  lu.assertFalse(share.master(one) == share.master(other))
end

function TestMaking.test_shares_made_again_are_a_new_set_of_the_same_key()
  local old = share.create { colour = "red", m = 2, n = 3 }
  local new = assert(share.again({ old[3], old[1] }, { m = 3, n = 4 }))
  lu.assertTrue(share.combine { new[4], new[2], new[1] } == share.combine { old[1], old[2] })
  lu.assertEquals({ new[1]:colour(), new[1]:needed(), new[1]:count() }, { "red", 3, 4 })
  if new[1]:set() ~= old[1]:set() then
    refused("of another set", new[1]:check_fits(old[2]))
  end
  refused("1 more share", share.again({ old[3] }, { m = 3, n = 4 }))
end

function TestMaking.test_numbers_that_cannot_be_are_refused()
  for _, case in ipairs { { 1, 2 }, { 0, 1 }, { 3, 2 }, { 2, 17 }, { 17, 17 }, { 0, 0 } } do
    local made, err = share.create { colour = "blue", m = case[1], n = case[2] }
    lu.assertNil(made)
    lu.assertEquals(err.code, "KFR_ARGUMENT")
    made, err = share.split(core.secret("text"), { m = case[1], n = case[2] })
    lu.assertNil(made)
    lu.assertEquals(err.code, "KFR_ARGUMENT")
  end
  for _, text in ipairs { "", ("x"):rep(251) } do
    local made, err = share.split(core.secret(text), { m = 2, n = 3 })
    lu.assertNil(made)
    lu.assertEquals(err.code, "KFR_ARGUMENT")
  end
end

function TestMaking.test_misuse_raises()
  lu.assertErrorMsgContains("colour", share.create, { colour = "domain", m = 1, n = 1 })
  lu.assertErrorMsgContains("'m'", share.create, { colour = "red", n = 1 })
  lu.assertErrorMsgContains("'n'", share.create, { colour = "red", m = 1, n = 1.5 })
  lu.assertErrorMsgContains("secret is wanted", share.parse, "academic")
  lu.assertError(share.combine, { "academic" })
  local one = share.create { colour = "red", m = 1, n = 1 }[1]
  lu.assertEquals(tostring(one), "share")
  one:close()
  one:close()
  lu.assertErrorMsgContains("closed", one.colour, one)
  lu.assertErrorMsgContains("closed", share.combine, { one })
end

-- Lua that runs while they are looked at closes none under the core: it is not run.
function TestMaking.test_what_runs_while_shares_are_looked_at_closes_none()
  local made = share.create { colour = "black", m = 2, n = 2 }
  local digits = assert(share.combine(made))
  local function close() made[1]:close() return 2 end
  local pretending = setmetatable({ made[1] }, { __len = close, __index = function(_, i)
    close()
    return made[i]
  end })
  refused("1 more share", share.combine(pretending))
  lu.assertTrue(share.combine(made) == digits)
  local options = setmetatable({}, { __index = close })
  lu.assertErrorMsgContains("closed", share.again, made, options)
  local text = core.secret("river of stones")
  lu.assertError(share.split, text, setmetatable({}, { __index = function()
    text:close()
    return 2
  end }))
end

local TestTogether = {}

function TestTogether.test_too_few_are_told_how_many_are_missing()
  local shares = share.create { colour = "black", m = 3, n = 5 }
  local set = shares[1]:set()
  refused(("2 more shares of set %s (black) are needed: 1 of 3 is there"):format(set),
    share.combine { shares[4] })
  refused(("1 more share of set %s (black) is needed: 2 of 3 are there"):format(set),
    share.combine { shares[4], shares[1] })
  refused("no share", share.combine {})
end

function TestTogether.test_too_many_are_refused_too()
  local shares = share.create { colour = "black", m = 2, n = 5 }
  refused("3 are there, and exactly 2 are needed",
    share.combine { shares[4], shares[1], shares[2] })
end

function TestTogether.test_what_does_not_fit_is_told_apart()
  local black = share.create { colour = "black", m = 2, n = 3 }
  local other
  repeat other = share.create { colour = "black", m = 2, n = 3 }
  until other[1]:set() ~= black[1]:set()
  local red = share.create { colour = "red", m = 2, n = 3 }
  for _, try in ipairs {
    function(a, b) return b:check_fits(a) end,
    function(a, b) return share.combine { a, b } end,
  } do
    lu.assertEvalToTrue((try(black[1], black[2])))
    refused(("share 2 is of another colour: it is red (set %s), not black (set %s)")
      :format(red[2]:set(), black[1]:set()), try(black[1], red[2]))
    refused(("share 2 is of another set: black set %s, not %s")
      :format(other[2]:set(), black[1]:set()), try(black[1], other[2]))
    refused(("share 1 of set %s is there twice"):format(black[1]:set()),
      try(black[1], black[1]))
    local a, b = table.unpack(parse_all(by_number[12].shares))
    refused("share 2 of set 3774 is of another threshold", try(a, b))
  end
end

-- The words of a share of three are good; its value is not that of the set.
function TestTogether.test_what_has_the_number_of_a_set_and_is_not_of_it_is_found()
  refused("do not belong together", share.combine(parse_all(by_number[13].shares)))
end

function TestTogether.test_a_foreign_secret_is_no_key_of_ours()
  refused("hold no key of keyferry", share.combine(parse_all(by_number[4].shares)))
end

-- Sound words of a black key, with an exponent of 15: two minutes and more that nothing ends.
function TestTogether.test_more_iterations_than_anybody_waits_for_are_refused()
  local words = [[academic bracelet academic academic acrobat email beard email beard email beard
    email beard email beard email beard email beard email beard email beard email
    beard email beard email beard email roster intend member]]
  local begun = os.clock()
  refused("no more than 10000 * 2^10 are done", share.combine { (assert(parse(words))) })
  lu.assertTrue(os.clock() - begun < 5)
end

local TestWords = {}

local function wrong_for(word)
  return word == "academic" and "zero" or "academic"
end

function TestWords.test_each_mistyped_word_is_named_by_its_position_and_not_corrected()
  for _, colour in ipairs { "blue", "domain" } do
    local words = {}
    for word in fixtures[colour].shares[2]:gmatch("%S+") do words[#words + 1] = word end
    for i, right in ipairs(words) do
      for _, wrong in ipairs { wrong_for(right), "yield" ~= right and "yield" or "year" } do
        words[i] = wrong
        local err = refused(("word %d of %d is not the word"):format(i, #words),
          parse(table.concat(words, " ")))
        for word in (err.what .. " " .. err.hint):gmatch("%a+") do
          lu.assertFalse(word == right and #word > 4, "the word is told")
        end
      end
      words[i] = right
    end
  end
end

function TestWords.test_swapped_neighbours_are_named()
  local words = {}
  for word in fixtures.red.shares[1]:gmatch("%S+") do words[#words + 1] = word end
  for i = 1, #words - 1 do
    words[i], words[i + 1] = words[i + 1], words[i]
    local one, err = parse(table.concat(words, " "))
    if words[i] == words[i + 1] then
      lu.assertNotNil(one)
    else
      refused(("words %d and %d of 33 are swapped"):format(i, i + 1), one, err)
    end
    words[i], words[i + 1] = words[i + 1], words[i]
  end
end

function TestWords.test_more_wrong_words_are_said_to_be_more()
  local words = fixtures.black.shares[1]
  local list = {}
  for word in words:gmatch("%S+") do list[#list + 1] = word end
  list[3], list[9] = wrong_for(list[3]), wrong_for(list[9])
  refused("the 33 words are no share: more than one of them is wrong",
    parse(table.concat(list, " ")))
end

function TestWords.test_a_word_of_no_list_is_named_by_its_position()
  local words = fixtures.black.shares[1]
  for i, wrong in ipairs { "keyferry", "aca", "academics", "acad3mic", "zzzz", "\255\0" } do
    local at = 3 * i
    local n = 0
    local text = words:gsub("%S+", function()
      n = n + 1
      return n == at and wrong or nil
    end)
    local err = refused(("word %d is none of the words"):format(at), parse(text))
    lu.assertNil((err.what .. err.hint):find(wrong .. "%f[%A]"))
  end
end

function TestWords.test_case_blanks_and_what_follows_four_letters_do_not_matter()
  local one = parse(fixtures.red.shares[1])
  local short = fixtures.red.shares[1]:gsub("(%a%a%a%a)%a*", "%1")
  for _, text in ipairs { short, short:upper(), "\r\n\t" .. short:gsub(" ", "\r\n \t") .. "\n" } do
    refused("is there twice", one:check_fits(assert(parse(text))))
  end
end

function TestWords.test_a_word_too_few_or_too_many_is_said()
  local words = fixtures.red.shares[1]
  refused("32 words: no share has so many", parse((words:gsub("%S+$", ""))))
  refused("34 words", parse(words .. " academic"))
  refused("0 words: no share has less than 20", parse(""))
  refused("more than 215 words", parse(("academic "):rep(5000)))
end

local TestFiles = {}

function TestFiles.test_a_file_is_for_people_and_for_nobody_else_and_never_written_over()
  local one = share.create { colour = "red", m = 2, n = 3 }[2]
  local path = tmp.dir() .. "/red-2"
  assert(one:write(path))
  local text = shell.read(path)
  lu.assertStrContains(text, ("keyferry share\ncolour: red\nset: %s\nshare: 2 of 3\nneeded: 2\n\n")
    :format(one:set()))
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
  local done, err = one:write(path)
  lu.assertNil(done)
  lu.assertEquals(err.code, "KFR_EXISTS")
  lu.assertEquals(shell.read(path), text)
  local again = assert(share.read(path))
  lu.assertEquals({ again:colour(), again:set(), again:number(), again:needed(), again:count() },
    { "red", one:set(), 2, 2, 3 })
  refused("is there twice", again:check_fits(one))
end

function TestFiles.test_just_words_are_read_too_and_a_head_that_belongs_to_others_is_not()
  local words = fixtures.red.shares[2]
  local head = "keyferry share\ncolour: %s\nset: %s\nshare: %s\nneeded: %s\nkept: in the safe\n\n"
  local set = fixtures.red.set
  assert(share.read(tmp.file(words)))
  assert(share.read(tmp.file("\n" .. words .. "\r\n")))
  lu.assertEquals(assert(share.read(tmp.file(head:format("red", set, "2 of 3", "2")
    :gsub("\n", "\r\n") .. words))):count(), 3)
  lu.assertNil(assert(share.read(tmp.file(head:format("red", set, "2", "2") .. words))):count())
  for _, case in ipairs { { "blue", set, "2 of 3", "2" }, { "red", "0000", "2 of 3", "2" },
    { "red", set, "1 of 3", "2" }, { "red", set, "2 of 99", "2" }, { "red", set, "2 of 3", "3" },
    { "red", set, "2 of 1", "2" }, { "red", set, "2 of 3 ", "2" } } do
    local path = tmp.file(head:format(table.unpack(case)) .. words)
    refused(path .. ": its words are of another share", share.read(path))
  end
end

function TestFiles.test_a_file_that_is_none_is_refused_with_its_name()
  for text, says in pairs { ["academic"] = "1 word: no share has less than 20",
    ["keyferry share\n"] = "0 words", ["keyferry share\ncolour: red"] = "0 words",
    ["\0\1\2"] = "word 1 is none" } do
    local path = tmp.file(text)
    refused(path .. ": " .. says, share.read(path))
  end
  local _, err = share.read(tmp.dir() .. "/none")
  lu.assertEquals(err.code, "KFR_SYSTEM")
  _, err = share.read(tmp.file(("x"):rep(20000)))
  lu.assertEquals(err.code, "KFR_LIMIT")
end

local TestSharing = {}

-- From within, byte by byte: M-1 values go with every secret, and any M of N give it back.
function TestSharing.test_fewer_than_m_values_tell_nothing()
  local done = process.run { build.tool("shamir_check"), timeout = 60 }
  lu.assertEquals(done.out, "ok\n", done.err .. tostring(done.signal))
  lu.assertEquals(done.status, 0)
end

return {
  TestShareVectors = TestVectors, TestShareFixtures = TestFixtures, TestShareMaking = TestMaking,
  TestSharesTogether = TestTogether, TestShareWords = TestWords, TestShareFiles = TestFiles,
  TestSharing = TestSharing,
}
