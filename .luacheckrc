std = "lua54"
max_line_length = 100
exclude_files = { "build/**" }
files["spec/fixtures/sealed.lua"] = { max_line_length = false } -- hex
files["**/*.rockspec"] = { std = "rockspec" }
