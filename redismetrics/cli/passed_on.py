"""Commands whose arguments another parser reads."""

# The module's own parser reads all arguments, including --help.
PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}
