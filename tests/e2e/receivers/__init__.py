"""Next hops that misbehave: many of them in one thread, each with a script of its own. The language is told in script.py,
what they record in receiver.py."""
