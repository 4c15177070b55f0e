"""placeholder"""
class Elsewhere:
    def __init__(self, alias): raise NotImplementedError
