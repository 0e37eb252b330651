"""Components that run patterns, code or libraries of others, in child processes that can be killed.

    pool.py        what the service calls: samples in, scores out, from any thread
    dispatcher.py  the pool's own thread: who scores what, and until when
    team.py        one component: the samples that wait for it and the workers that score them
    worker.py      the pool's end of one worker
    nursery.py     the pool's end of one zygote
    zygote.py      a process that loads one component and forks its workers
    child.py       a worker: one sample at a time, under limits
    process.py     what these processes ask of the Linux kernel
    wire.py        what travels between them
    request.py     what waits for scores
    config.py      how many, how long, how much memory

    pool thread --fork, kill--> zygote --fork--> worker, worker, ...
         '----------samples, scores over a private socket----'

It protects the service and the neighbours of a sample from code that hangs, crashes or eats memory. It is
no sandbox against malice: a worker has the user, the files and the network of the service.
"""
