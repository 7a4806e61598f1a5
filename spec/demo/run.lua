-- SPDX-License-Identifier: MIT
-- The demo: backs a partition up at a terminal, as the reference page shows it, and proves
-- the backup with programs that are not ours. Every step is compared with what it has to be;
-- the first that differs ends the demo with status 1. It leaves nothing behind.
package.path = "spec/?.lua;" .. package.path
local shell = require("support.shell")
local tmp = require("support.tmp")

local build = shell.absolute(os.getenv("KEYFERRY_BUILD") or "build")
local source = shell.absolute(".")
local dir = tmp.dir("demo")

local LABELS = {
  "MT AES 256-bit KeyGen",
  "MT EC P-256 Private KeyGen", "MT EC P-256 Public KeyGen",
  "MT Ed25519 Private KeyGen", "MT Ed25519 Public KeyGen",
  "MT RSA 4096-bit Private KeyGen", "MT RSA 4096-bit Private KeyGen",
  "MT RSA 4096-bit Private KeyGen", "MT RSA 4096-bit Public KeyGen",
  "MT RSA 4096-bit Public KeyGen", "MT RSA 4096-bit Public KeyGen",
  "note", "web",
}
local BACKUP = "keyferry partition backup -partition sa78par1 -tokenpar sa78par1backup "
  .. "-serial 496771"

local function say(...)
  io.stdout:write(...)
  io.stdout:write("\n")
  io.stdout:flush()
end

local at_tty = os.execute("test -t 1")
local bold = at_tty and { "\27[1m", "\27[0m" } or { "", "" }

local function tell(text)
  say("\n", bold[1], "# ", (text:gsub("\n", "\n# ")), bold[2])
end

local function wrong(what, ...)
  say("\nNOT AS TOLD: ", what:format(...))
  os.exit(1, true)
end

-- ---- Commands: what is shown is what is run, by /bin/sh

-- The demo's own world: no configuration and no HSM of whoever runs it.
local environment = {
  PATH = build .. ":" .. os.getenv("PATH"), HOME = dir, KEYFERRY_HOME = dir .. "/home",
  XDG_CONFIG_HOME = dir, SOFTHSM2_CONF = dir .. "/none", TERM = "xterm", LC_ALL = "C.UTF-8",
}
for _, name in ipairs { "PASSWORD", "TOKENPW", "TOKENSOPWD", "DOMAIN" } do
  environment["KEYFERRY_" .. name] = false
  environment["KEYFERRY_" .. name .. "_FILE"] = false
end
local functions = {}

local function env_words()
  local unset, set = "", ""
  for name, value in pairs(environment) do
    if value then
      set = ("%s %s=%s"):format(set, name, shell.quote(value))
    else
      unset = ("%s -u %s"):format(unset, name)
    end
  end
  return "cd " .. shell.quote(dir) .. " && exec env" .. unset .. set .. " "
end

-- Output as it comes, in a list of lines and on the screen; then the exit status.
local function run(words, quiet)
  local lines = {}
  local pipe = assert(io.popen(env_words() .. words .. " 2>&1", "r"))
  for line in pipe:lines("L") do
    line = line:gsub("[\r\n]+$", "")
    table.insert(lines, line)
    if not quiet then say(at_tty and line or (line:gsub("^.*\27%[K", ""))) end -- progress
  end
  local _, how, code = pipe:close()
  return lines, how == "exit" and code or how .. " " .. code
end

local function preamble()
  return table.concat(functions, "\n") .. "\n"
end

local function must(command, quiet)
  local lines, status = run("sh -c " .. shell.quote(preamble() .. command), quiet)
  if status ~= 0 then wrong("exit status %s of: %s\n%s", status, command,
    table.concat(lines, "\n")) end
  return lines
end

local function show(command, quiet)
  say("$ ", command)
  return must(command, quiet)
end

-- A shell function for the commands to come.
local function define(name, body)
  say("$ ", name, "() ", body)
  table.insert(functions, ("%s() %s"):format(name, body))
end

-- The same at a pseudo-terminal: pairs of a question and what is typed.
local function at_terminal(command, answers)
  local list = {}
  for _, pair in ipairs(answers) do table.insert(list, pair[1] .. "\n" .. pair[2]) end
  local file = dir .. "/answers"
  shell.write(file, table.concat(list, "\n") .. "\n")
  say("$ ", command)
  local lines, status = run(("expect -f %s %s sh -c %s"):format(
    shell.quote(source .. "/spec/demo/type.exp"), shell.quote(file),
    shell.quote("exec " .. command)))
  os.remove(file)
  if status == 98 then wrong("other questions than the reference page has") end
  if status ~= 0 then wrong("exit status %s", status) end
  return lines
end

-- ---- Comparing

local function sorted(list)
  table.sort(list)
  return list
end

local function compare(what, got, wanted)
  got, wanted = table.concat(got, "\n"), table.concat(wanted, "\n")
  if got ~= wanted then wrong("%s. Wanted:\n%s\nBut it is:\n%s", what, wanted, got) end
end

-- Object lines without their handles, sorted, and the lines after them.
local function report(lines)
  local objects, rest = {}, {}
  for _, line in ipairs(lines) do
    if line:find("^Object ") then
      table.insert(objects, (line:gsub("handle %d+", "handle N")))
      rest = {}
    else
      table.insert(rest, line)
    end
  end
  return sorted(objects), rest
end

local function check_report(lines, pattern, counts)
  local objects, rest = report(lines)
  local wanted = {}
  for _, label in ipairs(LABELS) do table.insert(wanted, pattern:format(label)) end
  compare("the line of each object", objects, sorted(wanted))
  compare("the last lines", rest, { counts, "'partition backup' successful.", "",
    "Command Result : 0 (Success)" })
end

-- The prompts, each where it belongs, answered by asterisks.
local function check_questions(lines, questions)
  local got = {}
  for i, line in ipairs(lines) do
    if line:find("^  > ") then
      table.insert(got, lines[i - 2] .. "|" .. lines[i - 1] .. "|" .. line)
    end
  end
  local wanted = {}
  for _, question in ipairs(questions) do
    table.insert(wanted, (" |  %s|  > ********"):format(question))
  end
  compare("the questions and their echo", got, wanted)
end

-- What pkcs11-tool lists, without what a copy may have otherwise (the order).
local function listing(command)
  local objects, current = {}, nil
  for _, line in ipairs(must(command .. " --list-objects 2>/dev/null", true)) do
    if not line:find("^%s") then
      current = { line }
      table.insert(objects, current)
      current[1] = line:gsub("^(Data object) %d+$", "%1") -- a handle
    elseif current and not line:find("^  uri:") then
      table.insert(current, line)
    end
  end
  for i, object in ipairs(objects) do objects[i] = table.concat(object, "\n") end
  return sorted(objects)
end

local function files_of(hsm)
  return must("cd home/hsms/" .. hsm .. "/tokens && find . -name '*.object' "
    .. "! -name token.object -exec sha256sum {} + | sort", true)
end

-- ---- The story

local function set_up()
  tell("A fresh home, and two soft HSMs (SoftHSM, a folder each) in it.")
  show("keyferry hsm create -name network -serial 150022")
  show("keyferry hsm create -name backup -serial 496771")
  tell("A partition to be backed up. Its secrets come from the environment here:\n"
    .. "KEYFERRY_PASSWORD=userpin1 KEYFERRY_TOKENSOPWD=so-pin-1 KEYFERRY_DOMAIN=domain-1")
  environment.KEYFERRY_PASSWORD = "userpin1"
  environment.KEYFERRY_TOKENSOPWD = "so-pin-1"
  environment.KEYFERRY_DOMAIN = "domain-1"
  show("keyferry partition create -partition sa78par1 -serial 150022")
  tell("Three RSA-4096 pairs, an EC and an Ed25519 pair, an AES key and a note, made by a\n"
    .. "script, spec/demo/fill.lua. The private keys are sensitive and not extractable: no\n"
    .. "PKCS#11 call gives them out.")
  must("cp " .. shell.quote(source .. "/spec/demo/fill.lua") .. " .", true)
  local lines = show("keyferry run fill.lua -partition sa78par1")
  compare("what fill.lua made", { lines[1] }, { #LABELS - 1 .. " objects made" })
  for _, name in ipairs { "PASSWORD", "TOKENSOPWD", "DOMAIN" } do
    environment["KEYFERRY_" .. name] = false
  end
end

-- The private keys that pkcs11-tool finds, and how each may be used.
local function check_locked(whose)
  local lines = show(whose .. " --list-objects --type privkey 2>/dev/null")
  local access = {}
  for line in table.concat(lines, "\n"):gmatch("Access:%s+([^\n]+)") do
    table.insert(access, line)
  end
  local wanted = {}
  for i = 1, 5 do wanted[i] = "sensitive, always sensitive, never extractable, local" end
  compare("the access to the private keys of the " .. whose, access, wanted)
end

-- pkcs11-tool on each partition, which is not ours and knows nothing of keyferry.
local function other_program()
  tell("Another program on the same partitions: OpenSC's pkcs11-tool. It adds a certificate\n"
    .. "and lists the private keys.")
  local module = require("support.build").softhsm()
  local tool = "(eval \"$(keyferry hsm env -name %s)\"; pkcs11-tool --module " .. module
    .. " --token-label %s --login --pin %s \"$@\")"
  define("original", tool:format("network", "sa78par1", "userpin1"))
  define("clone", tool:format("backup", "sa78par1backup", "backup-1"))
  must("openssl req -x509 -newkey rsa:2048 -nodes -keyout web.key -subj /CN=web "
    .. "-outform DER -out web.der 2>/dev/null", true)
  show("original --write-object web.der --type cert --label web --id 07 2>/dev/null")
  check_locked("original")
end

local function backup()
  tell("The backup, typed at a terminal: userpin1; backup-1 twice, being new; so-pin-2 twice,\n"
    .. "for the Security Officer of the partition to be made; domain-1.")
  local user = "Please enter the password for the HSM user partition:"
  local token = "Please enter a password for the user on the backup token:"
  local again = "Please re-enter the password for the user on the backup token:"
  local so = "Please enter a password for the Security Officer of the backup token:"
  local so_again = "Please re-enter the password for the Security Officer of the backup token:"
  local domain = "Please enter the cloning domain set when the HSM user partition was created:"
  local lines = at_terminal(BACKUP, { { user, "userpin1" }, { token, "backup-1" },
    { again, "backup-1" }, { so, "so-pin-2" }, { so_again, "so-pin-2" }, { domain, "domain-1" } })
  check_questions(lines, { user, token, again, so, so_again, domain })
  check_report(lines, 'Object "%s" (handle N) cloned to handle N on target', "13 cloned")
end

local function same_objects()
  compare("what pkcs11-tool lists on the backup", listing("clone"), listing("original"))
end

local function verified(lines)
  if not table.concat(lines, "\n"):find("Verified OK", 1, true) then
    wrong("a signature of the clone does not verify")
  end
end

local function prove_rsa(id)
  show(("clone --sign --id %s --mechanism SHA256-RSA-PKCS --input-file order "
    .. "--output-file order.sig 2>/dev/null"):format(id))
  show(("original --read-object --type pubkey --id %s --output-file original.pub 2>/dev/null")
    :format(id))
  verified(show("openssl dgst -sha256 -keyform DER -verify original.pub "
    .. "-signature order.sig order"))
end

local function prove()
  tell("Proof. The backup signs, and the public key of the original verifies.")
  show("echo 'pay 100 to nobody' >order")
  for id = 1, 3 do prove_rsa(("%02d"):format(id)) end
  tell("The same with the EC key.")
  show("openssl dgst -sha256 -binary -out order.sha256 order")
  show("clone --sign --id 04 --mechanism ECDSA --signature-format openssl "
    .. "--input-file order.sha256 --output-file order.sig 2>/dev/null")
  show("original --read-object --type pubkey --id 04 --output-file original.pub 2>/dev/null")
  verified(show("openssl dgst -sha256 -keyform DER -verify original.pub "
    .. "-signature order.sig order"))
  tell("Ed25519 signatures are a function of key and message: both sign, and compare.")
  show("original --sign --id 05 --mechanism EDDSA --input-file order --output-file a.sig "
    .. "2>/dev/null")
  show("clone --sign --id 05 --mechanism EDDSA --input-file order --output-file b.sig "
    .. "2>/dev/null")
  show("test -s a.sig && cmp a.sig b.sig && echo same")
  tell("What the original AES key encrypts, the clone decrypts.")
  local cbc = " --id 06 --mechanism AES-CBC-PAD --iv 00112233445566778899aabbccddeeff "
  show("original --encrypt" .. cbc .. "--input-file order --output-file order.aes 2>/dev/null")
  show("clone --decrypt" .. cbc .. "--input-file order.aes --output-file order.plain 2>/dev/null")
  show("cmp order order.plain && echo same")
  tell("Certificate and note, to the byte.")
  show("clone --read-object --type cert --label web --output-file web.clone 2>/dev/null")
  show("cmp web.der web.clone && echo same")
  compare("the note", show("clone --read-object --type data --label note 2>/dev/null"),
    { "The spare fuse is in the second drawer." })
  tell("And the clones are as locked up as the originals.")
  check_locked("clone")
end

local USER = "Please enter the password for the HSM user partition:"
local TOKEN = "Please enter a password for the user on the backup token:"
local DOMAIN = "Please enter the cloning domain set when the HSM user partition was created:"
local ANSWERS = { { USER, "userpin1" }, { TOKEN, "backup-1" }, { DOMAIN, "domain-1" } }

local function add()
  tell("Once more with -add: all is there, nothing is cloned, nothing changes.")
  local before = files_of("backup")
  local lines = at_terminal(BACKUP .. " -add", ANSWERS)
  check_questions(lines, { USER, TOKEN, DOMAIN })
  check_report(lines, 'Object "%s" (handle N) already exists on target (handle N)',
    "0 cloned, 13 already there")
  compare("the files of the backup", files_of("backup"), before)
end

local function kept(before, after)
  local old, count = {}, 0
  for _, line in ipairs(before) do old[line] = true end
  for _, line in ipairs(after) do count = count + (old[line] and 1 or 0) end
  return count
end

local function replace()
  tell("With -replace everything is cloned anew and the old objects go. It asks first.")
  local before = files_of("backup")
  local answers = table.move(ANSWERS, 1, 3, 1, {})
  table.insert(answers, { "Type 'proceed' to continue, or 'quit' to quit now.", "proceed" })
  local lines = at_terminal(BACKUP .. " -replace", answers)
  check_report(lines, 'Object "%s" (handle N) cloned to handle N on target',
    "13 cloned, 13 removed")
  local after = files_of("backup")
  compare("how many files stay, those of the domain, and how many there are",
    { kept(before, after), #after }, { 3, 3 + #LABELS })
  same_objects()
  tell("The replaced backup signs, too.")
  prove_rsa("02")
end

local function story()
  set_up()
  other_program()
  local untouched = files_of("network")
  backup()
  same_objects()
  prove()
  add()
  replace()
  compare("the files of the source", files_of("network"), untouched)
  tell("All as told: every step was compared, and the source partition is unchanged.")
end

story()
tmp.remove_all()
