io.write(('line\n'):rep(200000)) os.exit(300)
