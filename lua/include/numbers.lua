-- Numbers as text.

-- Return a whole number in digits: tostring() would turn 10^15 into '1e+15'.
local function format_integer(number)
  return string.format('%.0f', number)
end
