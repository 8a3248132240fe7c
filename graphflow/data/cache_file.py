
def stream(path, make, leaves, made):
    raise NotImplementedError
