-- SPDX-License-Identifier: MIT
-- once: what several tests look at and none changes, made by the first that asks.
--
--   local source = once(function() return make() end)
--   source()  -- the same each time
return function(make)
  local made
  return function()
    if made == nil then made = make() end
    return made
  end
end
