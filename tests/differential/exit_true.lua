print('x') io.write('kept') os.exit(true, true)
