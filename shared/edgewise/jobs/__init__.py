"""The async room: files, batches, background answers and tasks, exactly once.

    file → validate → plan → chunks → lines → results → output and error files

A batch's file is cut into chunks of lines; a chunk travels as one SQS message and is worked under a lease; a line's
result is one conditional write. SQS delivers at least once and a worker may die at any moment, so every step can be
done again and changes nothing the second time. What runs a line is handed in: this room knows no provider, no
cache and no budget.
"""
