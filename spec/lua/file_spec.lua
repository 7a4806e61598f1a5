-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local core = require("keyferry.core")
local shell = require("support.shell")
local tmp = require("support.tmp")

local file = core.file
local TestFile = {}

local function refused(value, err)
  lu.assertNil(value)
  lu.assertEquals(type(err.code), "string")
  return err
end

function TestFile.test_writes_and_reads_any_bytes()
  local path = tmp.dir() .. "/x"
  lu.assertTrue(file.write(path, "a\0b\n"))
  lu.assertEquals(file.read(path, 4), "a\0b\n")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
  lu.assertTrue(file.write(path, "", tonumber("644", 8)))
  lu.assertEquals(file.read(path, 0), "")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "644" })
end

function TestFile.test_more_than_wanted_is_refused()
  lu.assertEquals(refused(file.read(tmp.file("12345"), 4)).code, "KFR_LIMIT")
  lu.assertEquals(refused(file.read("/nonexistent", 4)).sys, 2)
end

function TestFile.test_folders_are_made_with_those_above()
  local dir = tmp.dir()
  lu.assertTrue(file.mkdir(dir .. "/a/b//c/"))
  lu.assertTrue(file.mkdir(dir .. "/a/b/c"))
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(dir .. "/a")), { "700" })
  lu.assertTrue(file.write(dir .. "/a/f", ""))
  lu.assertEquals(file.list(dir .. "/a"), { "b", "f" })
  lu.assertEquals(refused(file.mkdir(dir .. "/a/f")).code, "KFR_EXISTS")
  refused(file.mkdir(dir .. "/a/f/g"))
  refused(file.mkdir(""))
  refused(file.list(dir .. "/none"))
  lu.assertTrue(file.remove_tree(dir .. "/a"))
  lu.assertNil(file.exists(dir .. "/a"))
end

function TestFile.test_what_is_there()
  local path = tmp.file("")
  lu.assertEquals(file.exists(path), "file")
  lu.assertEquals(file.exists("/"), "directory")
  lu.assertEquals(file.exists("/dev/null"), "other")
  lu.assertNil(file.exists(path .. "/x"))
  lu.assertEquals(file.owner(path), core.user().uid)
  lu.assertEquals(file.realpath("/dev/../dev/./null"), "/dev/null")
  refused(file.realpath("/nonexistent"))
  refused(file.owner("/nonexistent"))
end

function TestFile.test_a_new_file_is_put_in_its_place_whole_or_not_at_all()
  local dir = tmp.dir()
  local path = dir .. "/new"
  lu.assertTrue(file.can_create(path))
  lu.assertEquals(file.list(dir), {})
  lu.assertTrue(file.create(path, "a\0b"))
  lu.assertEquals(file.read(path, 4), "a\0b")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
  for _, refusal in ipairs { refused(file.create(path, "c")), refused(file.can_create(path)) } do
    lu.assertEquals(refusal.code, "KFR_EXISTS")
  end
  lu.assertEquals(file.read(path, 4), "a\0b")
  lu.assertTrue(file.can_create(path, true))
  lu.assertTrue(file.create(path, "c", tonumber("640", 8), true))
  lu.assertEquals(file.read(path, 4), "c")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "640" })
  lu.assertEquals(file.list(dir), { "new" })
end

function TestFile.test_where_no_file_can_be_put()
  local dir = tmp.dir()
  assert(os.execute("ln -s nowhere " .. dir .. "/link"))
  lu.assertEquals(refused(file.create(dir .. "/link", "")).code, "KFR_EXISTS")
  lu.assertTrue(file.create(dir .. "/link", "x", 384, true))
  lu.assertNil(file.exists(dir .. "/nowhere"))
  lu.assertEquals(refused(file.create(dir, "", 384, true)).code, "KFR_ARGUMENT")
  lu.assertEquals(refused(file.create("/dev/null", "", 384, true)).code, "KFR_ARGUMENT")
  lu.assertEquals(refused(file.create(dir .. "/none/x", "")).code, "KFR_NOT_FOUND")
  lu.assertEquals(refused(file.can_create(dir .. "/x/")).code, "KFR_ARGUMENT")
  lu.assertEquals(refused(file.can_create(dir .. "/link/x")).sys, 20)
end

-- /dev/stdout is such a link: root would put a file in its place for everybody.
function TestFile.test_a_link_that_leads_to_no_file_is_not_replaced()
  local dir = tmp.dir()
  assert(os.execute("mkfifo " .. dir .. "/pipe"))
  for i, to in ipairs { "/dev/null", "/proc/self/fd/1", dir, dir .. "/pipe" } do
    local link = ("%s/link %d"):format(dir, i)
    assert(os.execute(("ln -s %s %s"):format(to, shell.quote(link))))
    lu.assertEquals(refused(file.create(link, "x", 384, true)).code, "KFR_ARGUMENT", to)
    lu.assertEquals(refused(file.can_create(link, true)).code, "KFR_ARGUMENT", to)
    lu.assertEquals(shell.lines("readlink " .. shell.quote(link)), { to })
  end
end

function TestFile.test_what_others_may_write_is_not_trusted()
  local path = tmp.file("return 1")
  lu.assertTrue(file.trusted(path))
  assert(os.execute("chmod o+w " .. shell.quote(path)))
  lu.assertEquals(refused(file.trusted(path)).code, "KFR_REFUSED")
end

function TestFile.test_a_path_with_a_nul_raises()
  lu.assertFalse((pcall(file.read, "/etc/passwd\0x", 10)))
end

local TestSystem = {}

function TestSystem.test_the_user()
  local user = core.user()
  lu.assertEquals(tostring(user.uid), shell.lines("id -u")[1])
  lu.assertEquals(user.name, shell.lines("id -un")[1])
  lu.assertItemsEquals(user.groups, (function()
    local names = {}
    for name in shell.lines("id -Gn")[1]:gmatch("%S+") do table.insert(names, name) end
    return names
  end)())
end

function TestSystem.test_the_clock_goes_forward()
  local before = core.now()
  lu.assertTrue(core.now() >= before and before > 0)
end

return { TestFile = TestFile, TestSystem = TestSystem }
