"""Who describes images in words: the captioners of `tips-bench corpus caption`.

base         what a captioner is: questions in, answers or faults out
choose       from what --captioner says to a captioner, and to the name under which its captions are kept
openai       a server with OpenAI's chat completions
server       one request to a server, tried again while that may help, at no more than a given rate
huggingface  an image-text-to-text model of transformers on this machine
user         a function of the user's
pixels       says which colors an image has; needs neither model nor server
"""
