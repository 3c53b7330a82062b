local name, path = ... return {name = name .. (path:match("[^/]*$"))}
