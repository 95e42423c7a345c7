-- Numbers as text and as bytes.

-- Return a whole number in digits: tostring() would turn 10^15 into '1e+15', and '%.0f' takes twice
-- as long.
local function format_integer(number)
  return string.format('%d', number)
end

-- Return a list of integers as bytes, u4 each.
local function pack_integers(list)
  local parts = {}
  for first = 1, #list, 1000 do
    local last = math.min(first + 999, #list)
    local format = '<' .. string.rep('I4', last - first + 1)
    parts[#parts + 1] = struct.pack(format, unpack(list, first, last))
  end
  return table.concat(parts)
end
