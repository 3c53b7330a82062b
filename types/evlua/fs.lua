---@meta evlua.fs

---Files, paths, directories. Nothing here blocks a thread that others need.
---@class evlua.fs
local fs = {}

---@class evlua.FsTimeoutOptions
---@field timeout? number seconds for the whole call

---@class evlua.FsReadOptions
---@field limit? integer longest file in bytes (2 GiB); a longer one is "ELIMIT"
---@field timeout? number seconds for the whole call

---@class evlua.FsWriteOptions
---@field atomic? boolean write beside it, sync, rename into place (false)
---@field append? boolean add at the end (false); excludes `atomic`
---@field permissions? integer of a new file (octal 0666), less the umask
---@field timeout? number seconds for the whole call

---@class evlua.FsOpenOptions
---@field permissions? integer of a new file (octal 0666), less the umask
---@field timeout? number seconds for the whole call
---@field direct? boolean past the page cache (false)

---@class evlua.FsMkdirOptions
---@field parents? boolean make those above, too; one that exists is fine (false)
---@field permissions? integer octal 0777, less the umask
---@field timeout? number seconds for the whole call

---@class evlua.FsSyncOptions
---@field data_only? boolean leave out times and the like (false)
---@field timeout? number seconds for the whole call

---@class evlua.FsReplaceOptions
---@field permissions? integer of the file; without, those of the old one
---@field timeout? number seconds for the whole call

---@class evlua.FsCopyOptions
---@field overwrite? boolean what is there may be replaced (true)
---@field preserve? boolean times and owners as well (false)
---@field recursive? boolean directories with what is in them (false)

---@class evlua.FsFollowOptions
---@field follow? boolean false: a link itself (true)

---@class evlua.FsLockOptions
---@field shared? boolean others may share it (false)
---@field timeout? number seconds; 0 only tries
---@field offset? integer of a range (0)
---@field length? integer of a range; 0: up to the end (0)

---@class evlua.FsRange
---@field offset? integer (0)
---@field length? integer 0: up to the end (0)

---@class evlua.FsWatchOptions
---@field recursive? boolean in all directories below, too (false)

---@class evlua.FsWalkOptions
---@field depth? number how deep to go
---@field on_error? fun(message: string, code: string) for a directory that cannot be read; without, that raises

---@class evlua.FsGlobOptions
---@field hidden? boolean names that begin with a dot match as others do (false)

---@class evlua.FsTemporaryOptions
---@field dir? string ($TMPDIR, or "/tmp")
---@field prefix? string ("evlua-")
---@field suffix? string ("")

---@class evlua.WalkEntry
---@field path string
---@field name string
---@field type evlua.FileType
---@field depth integer 1 for what is in the directory itself
---@field prune? boolean set it to leave out what is in this directory

---@alias evlua.FileType
---| "file"
---| "directory"
---| "link"
---| "fifo"
---| "socket"
---| "char device"
---| "block device"
---| "unknown"

---What is at a path.
---@class evlua.FileInfo
---@field type evlua.FileType
---@field size integer bytes
---@field permissions integer bits of chmod(2)
---@field uid integer owner
---@field gid integer group
---@field links integer number of hard links
---@field inode integer
---@field device integer
---@field accessed number seconds since 1970-01-01 UTC
---@field modified number seconds since 1970-01-01 UTC
---@field changed number seconds since 1970-01-01 UTC
---@field created? number seconds since 1970-01-01 UTC, where the file system knows

---@class evlua.DirectoryEntry
---@field name string
---@field type evlua.FileType

---An open file with a position.
---@class evlua.File
local File = {}

---Without arguments or with a number: 1 to n bytes (65536). "l": a line without its end; "L": with it; "a": the rest.
---End of file is `nil, "end of file", "EOF"`.
---@param what? integer|"l"|"L"|"a"
---@param options? evlua.FsTimeoutOptions
---@return string? data
---@return string? message
---@return string? code
function File:read(what, options) end

---1 to n bytes from the offset on; leaves the position alone. Any number of tasks may use it at once.
---@param n integer
---@param offset integer from 0
---@param options? evlua.FsTimeoutOptions
---@return string? data
---@return string? message
---@return string? code
function File:read_at(n, offset, options) end

---Lines, until the end of the file. A failure raises.
---@param format? integer|"l"|"L"
---@return fun(): string? next
function File:lines(format) end

---Pieces of at most n bytes (65536), until the end of the file. A failure raises.
---@param n? integer
---@return fun(): string? next
function File:chunks(n) end

---Writes all of it at the position, or at the end for mode "a".
---@param data string
---@param options? evlua.FsTimeoutOptions
---@return true? written
---@return string? message
---@return string? code
function File:write(data, options) end

---Writes all of it at the offset; leaves the position alone.
---@param data string
---@param offset integer from 0
---@param options? evlua.FsTimeoutOptions
---@return true? written
---@return string? message
---@return string? code
function File:write_at(data, offset, options) end

---Moves the position and returns it.
---@param whence? "set"|"cur"|"end"
---@param offset? integer
---@return integer? position
---@return string? message
---@return string? code
function File:seek(whence, offset) end

---Returns when everything written is on the disk.
---@param options? evlua.FsSyncOptions
---@return true? synced
---@return string? message
---@return string? code
function File:sync(options) end

---Does nothing: writes are not buffered.
---@return true
function File:flush() end

---Makes the file that long (default: the position).
---@param size? integer
---@return true? done
---@return string? message
---@return string? code
function File:truncate(size) end

---@return evlua.FileInfo? info
---@return string? message
---@return string? code
function File:stat() end

---Locks the file as flock(2) does, or a range of it (F_OFD_SETLK). Waiting takes no thread.
---@param options? evlua.FsLockOptions
---@return true? done
---@return string? message
---@return string? code
function File:lock(options) end

---@param options? evlua.FsRange
---@return true? done
---@return string? message
---@return string? code
function File:unlock(options) end

---What offsets and sizes of writes must be multiples of; 1 if the file is not open `direct`.
---@return integer bytes
function File:alignment() end

---Makes sure that there is room for `size` bytes from `offset` (0) on.
---@param size integer
---@param offset? integer
---@return true? done
---@return string? message
---@return string? code
function File:allocate(size, offset) end

---May be called twice.
---@return true? closed
---@return string? message
---@return string? code
function File:close() end

---Reads the whole file.
---@param path string
---@param options? evlua.FsReadOptions
---@return string? content
---@return string? message
---@return string? code
function fs.read(path, options) end

---Creates or replaces the file.
---@param path string
---@param data string
---@param options? evlua.FsWriteOptions
---@return true? written
---@return string? message
---@return string? code
function fs.write(path, data, options) end

---Opens a file: "r", "w" or "a", then "+" (read and write), "x" (must not exist), "b" (nothing).
---@param path string
---@param mode? string
---@param options? evlua.FsOpenOptions
---@return evlua.File? file
---@return string? message
---@return string? code
function fs.open(path, mode, options) end

---@param path string
---@param options? evlua.FsTimeoutOptions
---@return evlua.FileInfo? info
---@return string? message
---@return string? code
function fs.stat(path, options) end

---As stat, but of a symbolic link itself.
---@param path string
---@param options? evlua.FsTimeoutOptions
---@return evlua.FileInfo? info
---@return string? message
---@return string? code
function fs.lstat(path, options) end

---@param path string
---@return boolean? exists
---@return string? message
---@return string? code
function fs.exists(path) end

---@param from string
---@param to string replaced if it exists
---@param options? evlua.FsTimeoutOptions
---@return true? done
---@return string? message
---@return string? code
function fs.rename(from, to, options) end

---Removes a file or a link.
---@param path string
---@param options? evlua.FsTimeoutOptions
---@return true? done
---@return string? message
---@return string? code
function fs.remove(path, options) end

---Removes an empty directory.
---@param path string
---@param options? evlua.FsTimeoutOptions
---@return true? done
---@return string? message
---@return string? code
function fs.rmdir(path, options) end

---@param path string
---@param options? evlua.FsMkdirOptions
---@return true? done
---@return string? message
---@return string? code
function fs.mkdir(path, options) end

---Makes a symbolic link at `path` that points to `target`.
---@param target string
---@param path string
---@return true? done
---@return string? message
---@return string? code
function fs.symlink(target, path) end

---@param path string
---@return string? target
---@return string? message
---@return string? code
function fs.readlink(path) end

---The absolute path without links, "." and "..".
---@param path string
---@return string? path
---@return string? message
---@return string? code
function fs.realpath(path) end

---Entries of a directory, in no particular order: `for entry in assert(fs.dir(path)) do ... end`
---@param path string
---@return (fun(state: any): evlua.DirectoryEntry?)? next
---@return any state or the message of the failure
---@return string? code
function fs.dir(path) end

---The names in a directory, sorted.
---@param path string
---@return string[]? names
---@return string? message
---@return string? code
function fs.list(path) end

---`fs.write` with `atomic`.
---@param path string
---@param data string
---@param options? evlua.FsReplaceOptions
---@return true? done
---@return string? message
---@return string? code
function fs.replace(path, data, options) end

---Copies the content and the permissions of a file, or a directory with `recursive`.
---@param from string
---@param to string
---@param options? evlua.FsCopyOptions
---@return true? done
---@return string? message
---@return string? code
function fs.copy(from, to, options) end

---Makes `path` another name of the file at `existing`.
---@param existing string
---@param path string
---@return true? done
---@return string? message
---@return string? code
function fs.link(existing, path) end

---Renames, or copies and removes where that leads to another file system.
---@param from string
---@param to string
---@return true? done
---@return string? message
---@return string? code
function fs.move(from, to) end

---Removes a file, or a directory with everything in it.
---@param path string
---@return true? done
---@return string? message
---@return string? code
function fs.remove_all(path) end

---@param path string
---@param permissions integer bits of chmod(2)
---@return true? done
---@return string? message
---@return string? code
function fs.chmod(path, permissions) end

---@param path string
---@param user? string|integer
---@param group? string|integer
---@param options? evlua.FsFollowOptions
---@return true? done
---@return string? message
---@return string? code
function fs.chown(path, user, group, options) end

---Seconds since 1970-01-01 UTC; nil leaves one as it is.
---@param path string
---@param accessed? number
---@param modified? number
---@param options? evlua.FsFollowOptions
---@return true? done
---@return string? message
---@return string? code
function fs.utimes(path, accessed, modified, options) end

---The value of an extended attribute.
---@param path string
---@param name string
---@return string? value
---@return string? message
---@return string? code
function fs.getxattr(path, name) end

---@param path string
---@param name string
---@param value string
---@return true? done
---@return string? message
---@return string? code
function fs.setxattr(path, name, value) end

---@param path string
---@param name string
---@return true? done
---@return string? message
---@return string? code
function fs.removexattr(path, name) end

---@param path string
---@return string[]? names
---@return string? message
---@return string? code
function fs.listxattr(path) end

---Everything below a directory: `for entry in assert(fs.walk(path)) do ... end`
---@param path string
---@param options? evlua.FsWalkOptions
---@return (fun(state: any): evlua.WalkEntry?)? next
---@return any state or the message of the failure
---@return string? code
function fs.walk(path, options) end

---The paths that match, sorted.
---@param pattern string
---@param options? evlua.FsGlobOptions
---@return string[] paths
function fs.glob(pattern, options) end

---A new file, open for reading and writing, and its path.
---@param options? evlua.FsTemporaryOptions
---@return evlua.File? file
---@return string? path or the message of the failure
---@return string? code
function fs.temp_file(options) end

---A new directory.
---@param options? evlua.FsTemporaryOptions
---@return string? path
---@return string? message
---@return string? code
function fs.temp_dir(options) end

---Tells what happens to a file, or in a directory.
---@class evlua.Watcher
local Watcher = {}

---@class evlua.WatchEvent
---@field type "created"|"removed"|"modified"|"written"|"moved_from"|"moved_to"|"attributes"|"moved"|"overflow"
---@field name? string in the directory that is watched; absent for what is watched itself
---@field directory boolean
---@field move? integer the same for "moved_from" and "moved_to" of one move

---The next event; "EOF" when what was watched is no more.
---@param options? evlua.FsTimeoutOptions
---@return evlua.WatchEvent? event
---@return string? message
---@return string? code
function Watcher:read(options) end

---Events, until what was watched is no more, or another task closes the watcher.
---@return fun(): evlua.WatchEvent? next
function Watcher:events() end

---Ends watching. May be called twice.
---@return true
function Watcher:close() end

---Watches a file, or a directory, with those below it only if it is to be `recursive`.
---@param path string
---@param options? evlua.FsWatchOptions
---@return evlua.Watcher? watcher
---@return string? message
---@return string? code
function fs.watch(path, options) end

return fs
