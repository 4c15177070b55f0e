"""What Django would pass to its driver, said in the words of ``DatabaseConfig``, or refused by name.

One file for each family, because each speaks another driver's language.
"""
