"""What server, worker and client agree on: words, messages, rules of form; imports none of them."""
