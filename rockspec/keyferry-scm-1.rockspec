rockspec_format = "3.0"
package = "keyferry"
version = "scm-1"
source = {
  url = "git+https://example.invalid/keyferry.git", -- not published; use `luarocks make`
}
description = {
  summary = "Back up an HSM partition to another HSM over PKCS#11",
  detailed = [[
The Lua module behind the program keyferry: HSMs, partitions, sessions and objects of
PKCS#11 modules, and cloning of objects under a cloning domain. The program and its
commands are not part of the rock; `make install` installs those.]],
  license = "MIT",
}
-- lua-cjson, too, but any one will do: distributions have it, where luarocks cannot see it.
dependencies = { "lua ~> 5.4" }
-- The Makefile is the one list of files. OpenSSL 3 and p11-kit come through pkg-config.
build = {
  type = "make",
  build_target = "core.so",
  install_target = "install-lua",
  install_variables = {
    LIBDIR = "$(LIBDIR)",
    LUADIR = "$(LUADIR)",
  },
}
