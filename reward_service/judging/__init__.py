"""Judgements by language models: what is asked, who is asked, and how an answer becomes a number.

    components/judge.py, components/pairwise.py
        --Question--> backends (an endpoint, a model of this process, a script) --Reply-->
        --parsing--> number --length control--> score

backend.py   the two wire types, and the base of all backends
backends/    a file per backend; `local` lies in rollout/judging.py, beside the engines that it plays on
prompts.py   the texts of questions; what a policy wrote is fenced in
parsing.py   the one form of an answer that counts
asking.py    what both components share
pairs.py     who is compared with whom, and what the verdicts amount to
bias.py      does the judge favour the first place, or the longer answer?
length.py    the declared price of length
"""
