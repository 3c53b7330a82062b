print('before') error({})
