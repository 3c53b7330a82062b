"""The Markdown page of an end-to-end report: docs/performance.md."""

HEADINGS = {
    "cpu_us_per_request": "CPU µs per request", "requests_per_s": "requests/s", "p99_us": "p99 µs", "spread": "spread",
    "operations_per_s": "reads/s", "ratio": "CPU time, lua5.3 = 1", "spawn_and_finish_ns": "spawn, run, finish (ns)",
    "yield_ns": "evlua.yield (ns)", "ns_per_call": "ns per call", "two_to_one": "two cores / one",
    "machine_two_to_one": "two processes of lua5.3 / one", "of_limit": "of that",
    "with_cpu_us": "CPU µs per request", "without_cpu_us": "without the monitor",
    "with_to_without": "CPU, with / without",
    "observed_cpu_us": "CPU µs per request", "alone_cpu_us": "without", "observed_to_alone": "CPU, with / without",
    "median_ms": "median ms", "most_ms": "most ms",
    "rate_ratio": "requests/s, with / without", "of_a_core": "the monitor itself, of a core",
    "resident_mib": "resident MiB",
    "pool_to_plain": "time in a pool of one / without", "milliseconds": "ms", "microseconds": "µs of CPU",
    "grows_by_kib": "resident KiB more",
    "wall_s": "s", "cpu_s": "s of CPU", "wall_ratio": "time, peer = 1", "cpu_ratio": "CPU, peer = 1",
    "late_p50_us": "late, p50 µs", "late_p99_us": "late, p99 µs", "echoes_per_s": "echoes/s",
    "sent_again": "sent again",
    "resident_bytes_each": "resident bytes each", "of_which_lua_heap": "of which Lua's heap",
}
# Section: the column that is also given as a multiple of a peer's.
COMPARED = {
    "http keep-alive": ("cpu_us_per_request", "nginx + Lua", "CPU, nginx + Lua = 1"),
    "http pipelined 16": ("requests_per_s", "nginx + Lua", "requests, nginx + Lua = 1"),
    **{section: ("cpu_us_per_request", "nginx + Lua", "CPU, nginx + Lua = 1")
       for section in ("static file, 1 KiB", "static file, 1 MiB", "gzip of 10 KiB", "https keep-alive",
                       "https static file, 1 MiB", "http/2", "full handshake and a request")},
    "file 4 KiB random read": ("operations_per_s", "Node.js fs/promises", "reads, Node.js = 1"),
}
NOTES = {
    "http keep-alive": "A Lua handler that answers \"Hello, World!\" as plain text, `wrk -t1 -c64`; Node.js and Go do "
                       "the same in their languages.",
    "http pipelined 16": "The same, 16 requests at a time on each connection. wrk tells no latency of pipelined "
                         "requests that could be trusted.",
    "static file, 1 KiB": "`wrk -t1 -c64`; nginx with sendfile and tcp_nopush.",
    "static file, 1 MiB": "`wrk -t1 -c16`.",
    "gzip of 10 KiB": "A Lua handler sends a page, which is packed at level 5; `wrk -t1 -c16`.",
    "https keep-alive": "\"Hello, World!\" of the Lua handler over TLS 1.3 (AES-256-GCM), `wrk -t1 -c64`.",
    "https static file, 1 MiB": "`wrk -t1 -c16`.",
    "http/2": "The same handler over HTTP/2 and TLS 1.3, `h2load -c16 -m32`: 512 requests are under way at any time. "
              "Latencies are from a second run, with `--log-file`.",
    "full handshake and a request": "A connection for each request, TLS 1.3, X25519 and a P-256 certificate, no "
                                    "resumption; eight clients at once. Latency is from connecting to the end "
                                    "that the server has put to the connection.",
    "memory while 4 GiB are moved": "An upload that a handler reads piece by piece, and a download of a sparse file: "
                                    "the peak of resident memory over what it was before.",
    "beside a handler that computes": "One client calls, again and again, a handler that computes for 200 ms; "
                                      "meanwhile 32 connections call one that answers at once (`wrk -t1 -c32`): their "
                                      "99th percentile. With two workers the server has both cores and shares one with "
                                      "the load.",
    "slice monitor": "The plain handler, `wrk -t1 -c64`, in pairs of rounds: with the thread that watches time slices, "
                     "and without it (`benchmarks/no_monitor.c`).",
    "Lua states, 1 worker, plain": "`--vms`, with one worker on a core of its own. More than one is of no use here.",
    "Lua states, 2 workers, plain": "The same with two workers, one of which shares its core with the load.",
    "Lua states, 2 workers, beside one that computes for 200 ms": "What a second one gains: no request queues behind "
                                                                  "the one that computes.",
    "Lua states, 2 workers, 40 MiB each, replaced": "Each state keeps tables of its own: that is why the default is "
                                                    "one.",
    "shared dictionary": "Two Vms (nginx: two processes), each on a core of its own, call the same dictionary at once. "
                         "A call of a C function alone takes Lua 5.3 some 35 ns, which is most of what is seen here; "
                         "LuaJIT compiles nginx's calls. Who increments the same key all the time waits for its cache "
                         "line from the other processor.",
    "fork and join over evlua.thread": "`pool:map` of a function that only computes, 16 calls of some 9 ms, the best "
                                       "of five; beside it what the machine gives two processes that share nothing.",
    "file 4 KiB random read": "64 reads in flight of a file of 64 MiB that is in the page cache, from a script, on one "
                              "core; fio at the same depth, without a script, as the yardstick.",
    "copy of 1 GiB": "`evlua.fs.copy` beside `cp`, of a file in the page cache.",
    "copy of 1 GiB by hand": "The same where copy_file_range and sharing blocks are refused (by seccomp), as some file "
                             "systems do.",
    "lines of 1 GiB": "`for line in io.lines(path)` on both, and the lines of a file of `evlua.fs`: count and add up "
                      "their sizes.",
    "SHA-256 of a tree of 10,000 files": "100 folders of 100 files of up to 8 KB: walked, read 64 at a time and "
                                         "hashed, by OpenSSL on both sides (`lua-luaossl`; `crypto`, `fs/promises`).",
    "10,000 timers at once": "Tasks asleep until moments of their own, 20,000 a second: how late they go on. "
                              "With io_uring the thread wakes up for each at its moment, with libev and Node.js once "
                              "in a millisecond for some 20.",
    "10,000 UDP echo clients at once": "All begin at the same moment, so that the server's receive buffer "
                                       "(`net.core.rmem_max`) may overflow; what is not answered within a second is "
                                       "sent again.",
    "access log and metrics": "The plain handler, `wrk -t1 -c64`, in pairs of rounds: with `--access-log` to a file, "
                              "with `--admin`, with both, and without them.",
    "a change until --watch has loaded it": "From the change of the app's file to the first answer of the new one, of "
                                            "20 changes.",
    "Lua CPU time, evlua / lua5.3": "Scripts that only compute, on the same Lua library as `lua5.3`.",
}


def intro(report):
    machine = report["machine"]
    return f"""# Performance

Measured on {machine['date']} on {machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}. The server
has one core to itself, the load has the other. All peers in one run and in turn, each checked for the same answer;
medians of {report['rounds']} rounds of {report['seconds']} s. CPU time is user and system time of all processes of the
server. "Spread" is the distance of the extremes over the median.

Do it yourself: `tools/dev bench peers` installs the peers, `tools/dev bench e2e` runs this, and
`tools/dev bench compare A.json B.json` tells what has become worse between two reports.
"""


def cell(column, value):
    if column == "p99_us" and value == 0:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(section, rows):
    columns = [column for column in rows[0][1] if column != "p99_us" or section != "http pipelined 16"]
    column, peer, heading = COMPARED.get(section, (None, None, None))
    base = dict(rows).get(peer, {}).get(column)
    headings = [HEADINGS.get(name, name) for name in columns] + ([heading] if base else [])
    lines = ["| | " + " | ".join(headings) + " |", "|---" + "|--:" * len(headings) + "|"]
    for name, row in rows:
        cells = [cell(column_name, row[column_name]) for column_name in columns]
        if base:
            cells.append(f"{row[column] / base:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def markdown(report):
    sections = {}
    for key, row in report["results"].items():
        section, name = key.split(": ", 1)
        sections.setdefault(section, []).append((name, row))
    lines = [intro(report)]
    for section, rows in sections.items():
        lines += [f"## {section[0].upper() + section[1:]}", ""]
        if section in NOTES:
            lines += [NOTES[section], ""]
        lines += table(section, rows) + [""]
    return "\n".join(lines).rstrip() + "\n"
