-- SPDX-License-Identifier: MIT
-- examples: the blocks of lua in a text, and the scene that each is run in, made afresh.
--
--   for _, example in ipairs(examples.blocks("lua/README.md")) do
--     local printed = examples.run(example)      -- raises what it raises
--   end
--
-- What an example prints stands behind "-->", line by line.
local keyferry = require("keyferry")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = { password = "the user's PIN" }

-- { { line, code, expected = { line, ... } }, ... }
function M.blocks(path)
  local list, block, number = {}, nil, 0
  for line in shell.read(path):gmatch("([^\n]*)\n") do
    number = number + 1
    if line == "```lua" then
      block = { line = number, lines = {}, expected = {} }
    elseif line == "```" and block then
      block.code = table.concat(block.lines, "\n") .. "\n"
      table.insert(list, block)
      block = nil
    elseif block then
      table.insert(block.lines, line)
      local shown = line:match("%-%-> (.*)$")
      if shown then table.insert(block.expected, shown) end
    end
  end
  return list
end

local secret = keyferry.secret

local function fill(session)
  local safe = { token = true, private = true, sensitive = true, extractable = false }
  local function with(more)
    for name, value in pairs(safe) do more[name] = value end
    return more
  end
  assert(session:generate(with { mechanism = "aes_key_gen", value_len = 32, label = "kek",
    id = "\1", encrypt = true, decrypt = true }))
  assert(session:generate_pair { mechanism = "ec_key_pair_gen",
    public = { label = "sign", id = "\2", token = true, verify = true,
      ec_params = "\6\8\42\134\72\206\61\3\1\7" },
    private = with { label = "sign", id = "\2", sign = true } })
  assert(session:create(with { class = "secret_key", key_type = "generic_secret",
    label = "mac", id = "\3", value = ("m"):rep(32), sign = true, verify = true }))
end

-- The scene as it is before every example: a folder, and its copy.
local home, pristine

local function configure()
  keyferry.configure { home = home, config = home .. "/config.lua" }
end

local function make()
  home, pristine = tmp.memory("reference"), tmp.memory("pristine")
  shell.write(home .. "/config.lua", "return { system = false }\n")
  assert(os.execute("chmod 600 " .. shell.quote(home .. "/config.lua")))
  configure()
  local domain = assert(keyferry.domain(secret("river of stones")))
  local pin, so = secret(M.password), secret("the officer's PIN")
  local prod = assert(keyferry.create_hsm { name = "prod", serial = "100001" })
  local vault = assert(keyferry.create_hsm { name = "vault", serial = "496771" })
  local partition = assert(prod:create_partition { label = "payments", password = pin,
    so_password = so, domain = domain })
  assert(vault:create_partition { label = "backup", password = pin, so_password = so,
    domain = domain })
  local session <close> = assert(partition:login(pin, { writable = true }))
  fill(session)
  session:close()
  keyferry.configure()
  process.must { "cp", "-a", home .. "/.", pristine }
end

local function reset()
  if not home then return make() end
  process.must { "sh", "-c", 'find "$1" -mindepth 1 -delete && cp -a "$2/." "$1"', "sh", home,
    pristine }
end

local function login(label)
  return assert(assert(keyferry.partition(label)):login(secret(M.password), { writable = true }))
end

-- What an example finds there; made when it is asked for.
local makers = {
  keyferry = function() return keyferry end,
  hsm = function() return assert(keyferry.hsm("prod")) end,
  partition = function() return assert(keyferry.partition("payments")) end,
  password = function() return secret(M.password) end,
  session = function() return login("payments") end,
  target = function() return login("backup") end,
  domain = function(env) return assert(env.session:find_domain("softhsm")) end,
  key = function(env) return env.session:find { label = "kek" }[1] end,
  private = function(env) return env.session:find { label = "sign", class = "private_key" }[1] end,
  public = function(env) return env.session:find { label = "sign", class = "public_key" }[1] end,
}

local function environment(printed)
  local env = {
    print = function(...)
      local words = table.pack(...)
      for i = 1, words.n do words[i] = tostring(words[i]) end
      table.insert(printed, table.concat(words, "\t"))
    end,
  }
  return setmetatable(env, { __index = function(_, name)
    local value = _G[name]
    if makers[name] then
      value = makers[name](env)
      rawset(env, name, value)
    end
    return value
  end })
end

local function as_code(example, name)
  local printed = {}
  local chunk = assert(load(example.code, ("=%s:%d"):format(name, example.line), "t",
    environment(printed)))
  local ok, problem = xpcall(chunk, function(problem)
    return type(problem) == "string" and debug.traceback(problem) or problem
  end)
  keyferry.configure()
  if not ok then error(problem, 0) end
  return printed
end

-- What specs want to see of the scene: work(env).
function M.inside(work)
  reset()
  configure()
  work(environment({}))
  keyferry.configure()
end

-- A script is run by the program, as its first line says: -- NAME.lua [OPTION ...]
local function as_script(example)
  local build = require("support.build")
  local dir = tmp.dir("script")
  local file, options = example.lines[1]:match("^%-%- (%S+%.lua) ?(.*)$")
  shell.write(dir .. "/" .. file, example.code)
  local done = process.run { "sh", "-c", ('exec "$0" --home "$1" run %s %s'):format(file, options),
    build.keyferry, home, cwd = dir, env = { KEYFERRY_PASSWORD = M.password,
      KEYFERRY_HOME = false, SOFTHSM2_CONF = "/nonexistent", XDG_CONFIG_HOME = dir } }
  if done.status ~= 0 then error(done.out .. done.err, 0) end
  local printed = {}
  for line in done.out:gmatch("([^\n]+)") do table.insert(printed, line) end
  return { table.unpack(printed, 1, #example.expected) }
end

function M.run(example, name)
  reset()
  if example.code:find("\nreturn {") then return as_script(example) end
  configure()
  return as_code(example, name)
end

return M
