io.write('before ') error('failed')
