"""What a repository promises, and the rules for it: words only, nothing here touches a file or a process.

    model                              what the three contract files say, once read
    pipeline, bootstrap, actions       reading them: a `Reading` with the value and every problem
    yaml_nodes -> reading -> sections -> fields, sandbox_wishes     how they are read
    schema                             their JSON Schemas

Import from the modules: this file stays empty, so that one who needs a rule does not pay for YAML.
"""
