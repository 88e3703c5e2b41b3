"""Function words of English: they join the words that say what a title is about."""

STOP_WORDS = frozenset(
    """
    a an the
    i me my mine we us our ours you your yours yourself he him his she her hers it its itself they them their theirs
    one who whom whose which what this that these those each every either neither both all any some none few many much
    more most several other others another such same own something anything everything nothing someone anyone everyone
    about above across after against along alone among amongst around as at before behind below beneath beside besides
    between beyond by co de down due during for from front in inside into near of off on onto out outside over past per
    re since than through throughout till to together toward towards under until up upon via versus vs with within
    without
    and but or nor so yet if then else because while when whenever where whereas wherever whether why how though
    although unless however thus hence therefore once
    am is are was were be been being became become do does did done doing have has had having can could may might must
    shall should will would cannot let get go got
    not no yes very too also only even just still again ever never always often sometimes almost already perhaps quite
    rather further here there now soon less least enough well first second third last next
    two three four five six seven eight nine ten
    """.split()
)
