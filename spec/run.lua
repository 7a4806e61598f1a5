-- SPDX-License-Identifier: MIT
-- The runner: lua5.4 spec/run.lua [-v] [-j N] [-o text|tap|junit] [FILTER ...]
--
-- -j: that many processes, each of which takes the next file that none has taken yet.
-- Run from the root of the repository. KEYFERRY_BUILD (default "build") is where keyferry
-- and lua/keyferry/core.so are. A test is run when every filter is found, as plain text, in
-- "spec/x/y_spec.lua TestNoun.test_claim". A spec file returns
--   { TestNoun = { test_a_claim_in_words = function() ... end, setUp = ..., tearDown = ... } }
-- and nothing in it is passed over in silence: a name LuaUnit would not run is refused.
-- The last line is "N passed, N failed[, N skipped]".

local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  local pipe <close> = assert(io.popen("pwd"))
  return pipe:read("l") .. "/" .. path
end

local root = absolute(".")
local build = absolute(os.getenv("KEYFERRY_BUILD") or "build")
package.path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/spec/?.lua;%s")
  :format(root, root, root, package.path:gsub("%./[^;]*;?", ""))
package.cpath = ("%s/lua/?.so;%s"):format(build, package.cpath:gsub("%./[^;]*;?", ""))

local lu = require("luaunit")
local tmp = require("support.tmp")

local function usage(message)
  io.stderr:write("spec/run.lua: ", message,
    "\nusage: lua5.4 spec/run.lua [-v] [-j N] [-o text|tap|junit] [FILTER ...]\n")
  os.exit(2, true)
end

local function arguments(argv)
  local options = { output = "text", filters = {}, jobs = 1 }
  local i = 1
  while argv[i] do
    if argv[i] == "-v" then
      options.verbose = true
    elseif argv[i] == "-o" then
      i = i + 1
      options.output = argv[i]
    elseif argv[i] == "-j" then
      i = i + 1
      options.jobs = math.tointeger(tonumber(argv[i])) or usage("-j takes a number")
    elseif argv[i] == "--taken" then -- from one that was started with -j
      i = i + 1
      options.taken = argv[i]
    elseif argv[i]:sub(1, 1) == "-" then
      usage("no such option: " .. argv[i])
    else
      table.insert(options.filters, argv[i])
    end
    i = i + 1
  end
  if not ({ text = 1, tap = 1, junit = 1 })[options.output] then
    usage("-o takes text, tap or junit")
  end
  if options.jobs > 1 and options.output ~= "text" then usage("-j writes text only") end
  return options
end

local function quote(word)
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function spec_files()
  local files = {}
  for path in assert(io.popen("find spec -name '*_spec.lua' -type f | LC_ALL=C sort")):lines() do
    table.insert(files, path)
  end
  return files
end

local fixtures = { setUp = true, tearDown = true }

local function load_spec(path)
  local chunk, problem = loadfile(path, "t")
  if not chunk then error(problem, 0) end
  local spec = chunk(path)
  if type(spec) ~= "table" or not next(spec) then
    error(path .. ": must return a table { TestNoun = { test_... } }", 0)
  end
  for noun, tests in pairs(spec) do
    if type(noun) ~= "string" or not noun:find("^Test[%w_]*$") or type(tests) ~= "table" then
      error(("%s: %s is not a table of tests with a name like TestNoun"):format(path, noun), 0)
    end
    local any
    for name, test in pairs(tests) do
      if type(name) == "string" and name:find("^test") and type(test) == "function" then
        any = true
      elseif type(test) == "function" and not fixtures[name] then
        error(("%s: %s.%s would never be run: the name of a test begins with test")
          :format(path, noun, name), 0)
      end
    end
    if not any then error(("%s: %s has no tests"):format(path, noun), 0) end
  end
  return spec
end

local function is_wanted(name, filters)
  for _, filter in ipairs(filters) do
    if not name:find(filter, 1, true) then return false end
  end
  return true
end

local function sorted(map)
  local keys = {}
  for key in pairs(map) do table.insert(keys, key) end
  table.sort(keys)
  return keys
end

local function has_any(path, filters)
  for _, filter in ipairs(filters) do
    if path:find(filter, 1, true) then return true end
  end
  return #filters == 0
end

-- A file that cannot be loaded fails, and the others still run. LuaUnit cuts a name at its
-- first dot, so the file goes in without ".lua".
local function collect(filters, files)
  local list, broken = {}, {}
  for _, path in ipairs(files) do
    local good, spec = xpcall(load_spec, function(problem)
      return type(problem) == "string" and problem or debug.traceback(tostring(problem))
    end, path)
    if not good then
      if has_any(path, filters) then table.insert(broken, { path, spec }) end
      spec = {}
    end
    for _, noun in ipairs(sorted(spec)) do
      for _, name in ipairs(sorted(spec[noun])) do
        local full = ("%s %s.%s"):format(path, noun, name)
        if name:find("^test") and is_wanted(full, filters) then
          table.insert(list, { (full:gsub("%.lua ", " ", 1)), spec[noun] })
        end
      end
    end
  end
  return list, broken
end

-- LuaUnit's own clock is the time of this processor; the work is done by others.
local function now()
  local file <close> = assert(io.open("/proc/uptime"))
  return file:read("n")
end

local Lines = lu.genericOutput.new()
Lines.__index = Lines

function Lines.new(runner)
  return setmetatable(lu.genericOutput.new(runner), Lines)
end

local function claim(node)
  return (node.testName:gsub("_spec ", "_spec.lua ", 1))
end

function Lines:startTest()
  self.started = now()
end

function Lines:endTest(node)
  local took = self.runner.verbose_times and ("  %.2f s"):format(now() - self.started) or ""
  if node:isSkipped() then
    print(("skipped  %s: %s%s"):format(claim(node), node.msg or "", took))
  elseif not node:isSuccess() then
    print(("FAILED   %s%s"):format(claim(node), took))
    print("         " .. tostring(node.msg):gsub("\n", "\n         "))
    print("         " .. tostring(node.stackTrace or ""):gsub("\n", "\n         "))
  elseif self.runner.verbose_times then
    print(("ok       %s%s"):format(claim(node), took))
  end
  io.stdout:flush()
end

local function run_files(options, files)
  local runner = lu.LuaUnit.new()
  local list, broken = collect(options.filters, files)
  for _, file in ipairs(broken) do print(("FAILED   %s: %s"):format(file[1], file[2])) end
  if options.output == "text" then
    runner.outputType = Lines
  else
    runner:setOutputType(options.output, options.output == "junit" and build .. "/spec.xml")
  end
  runner.verbose_times = options.verbose
  runner:registerSuite()
  runner:internalRunSuiteByInstances(list)
  runner:unregisterSuite()
  local result = runner.result
  return { result.successCount, result.notSuccessCount + #broken, result.skippedCount }
end

local function add(sum, more)
  for i = 1, 3 do sum[i] = sum[i] + more[i] end
end

-- One of several processes: file by file, as long as there are some.
local function run_taking(options)
  local sum = { 0, 0, 0 }
  for i, path in ipairs(spec_files()) do
    if os.execute(("mkdir %s/%d 2>/dev/null"):format(quote(options.taken), i)) then
      add(sum, run_files(options, { path }))
    end
  end
  return sum
end

-- Prints what one of them wrote; gives the counts of its last line. One that ended without
-- them counts as a failure.
local function read_counts(pipe)
  local counts
  for line in pipe:lines() do
    local passed, failed = line:match("^(%d+) passed, (%d+) failed")
    counts = passed and { tonumber(passed), tonumber(failed),
      tonumber(line:match("(%d+) skipped") or 0) }
    if not counts then
      print(line)
      io.stdout:flush()
    end
  end
  return counts or { 0, 1, 0 }
end

local function run_in_parallel(options)
  local taken, sum, command, pipes = tmp.dir("taken"), { 0, 0, 0 }, {}, {}
  for _, word in ipairs { arg[-1], arg[0], "--taken", taken, table.unpack(options.filters) } do
    table.insert(command, quote(word))
  end
  if options.verbose then table.insert(command, "-v") end
  command = table.concat(command, " ")
  for i = 2, options.jobs do -- to a file: a pipe that nobody reads yet would fill
    pipes[i] = assert(io.popen(("%s >%s/out.%d 2>&1; cat %s/out.%d"):format(command,
      quote(taken), i, quote(taken), i)))
  end
  pipes[1] = assert(io.popen(command .. " 2>&1"))
  for _, pipe in ipairs(pipes) do
    add(sum, read_counts(pipe))
    pipe:close()
  end
  return sum
end

local function run(options)
  if options.taken then return run_taking(options) end
  if options.jobs > 1 then return run_in_parallel(options) end
  return run_files(options, spec_files())
end

local options = arguments(arg)
local good, sum = xpcall(run, function(problem)
  io.stderr:write(debug.traceback(tostring(problem), 2), "\n")
end, options)
local passed, failed, skipped = 0, 1, 0
if good then passed, failed, skipped = table.unpack(sum) end
local none = passed + failed + skipped == 0
if none and not options.taken then io.stderr:write("spec/run.lua: no test was run\n") end
collectgarbage()
tmp.remove_all()
print(("%d passed, %d failed%s"):format(passed, failed,
  skipped > 0 and (", %d skipped"):format(skipped) or ""))
os.exit(failed == 0 and not none, true)
