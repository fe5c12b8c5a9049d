"""A Hugging Face hub that is not there."""

import types


class Hub:
    """A hub with one repository; what is asked of it."""

    def __init__(self, private=True, files=()):
        self.private, self.files, self.made, self.sent = private, files, [], None

    def create_repo(self, name, *, private, exist_ok):
        assert exist_ok
        self.made.append((name, private))
        return types.SimpleNamespace(repo_id=f"me/{name}")

    def model_info(self, name):
        siblings = [types.SimpleNamespace(rfilename=name) for name in self.files]
        return types.SimpleNamespace(private=self.private, siblings=siblings)

    def create_commit(self, name, operations, *, commit_message):
        self.sent = name, operations
