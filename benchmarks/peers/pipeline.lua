-- wrk: 16 requests in one write.
init = function(args)
  local one = wrk.format()
  local all = {}
  for i = 1, 16 do all[i] = one end
  request_bytes = table.concat(all)
end
request = function() return request_bytes end
