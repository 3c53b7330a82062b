io.write('written') io.stderr:write('error') os.exit(7)
