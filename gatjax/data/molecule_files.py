"""The pinned facts about the sets of molecules: addresses, hashes, units, names."""

MAT_URL = "https://raw.githubusercontent.com/ardigen/MAT/master/data"

FREESOLV_SHA256 = "ab5895d914ee87cb563bd7b9611e869527bba45bec6b014d34dc495a0f9dcb72"
ESOL_SHA256 = {
    "esol/esol.csv": "9ba9293ddd65a458d369fd1bb50b74133333d2a0ab301606e9ae6071a7331afb",
}
BBBP_SHA256 = {
    "bbbp/bbbp.csv": "cddcfa778105d2b3ad3e90cc68bf0bc15af4b1b82c205d46318d5025ab666f70",
    "bbbp/split-scaffold-0.npy": "2ddda48fad6b9e4d02a3be36df1ab4a9467d4b4c9f19fdcf3612def7295d1faa",
}

# The file has z-scores; with this scale and shift, and no other, all 1128 have at most three decimals, as published.
ESOL_STD, ESOL_MEAN, ESOL_DECIMALS = 2.0955117304559443, -3.0501019503546107, 3

# The published split k of FreeSolv and ESOL is NumPy's legacy permutation of this seed + k, cut at .8 and .9.
SPLIT_SEED, NUM_SPLITS = 120, 6

# Columns of qm9pack, the names that papers use, units.
QM9_TARGETS = (
    ("Dipole_debye", "mu", "D"),
    ("Polarizability_bohr3", "alpha", "bohr^3"),
    ("HOMO_au", "homo", "hartree"),
    ("LUMO_au", "lumo", "hartree"),
    ("HOMO_LUMO_gap_au", "gap", "hartree"),
    ("R2_bohr2", "r2", "bohr^2"),
    ("ZPVE_au", "zpve", "hartree"),
    ("InternalEnergy_0K_au", "u0", "hartree"),
    ("InternalEnergy_298K_au", "u298", "hartree"),
    ("Enthalphy_298K_au", "h298", "hartree"),
    ("GibbsFreeEnergy_298K_au", "g298", "hartree"),
    ("Heatcapacity_Cv_cal_mol_K", "cv", "cal/(mol K)"),
)
QM9_FILES = tuple(f"qm9_part{part}.csv" for part in (1, 2, 3))

MOLECULE_ACE = (
    *("CHEMBL1862_Ki", "CHEMBL1871_Ki", "CHEMBL2034_Ki", "CHEMBL2047_EC50", "CHEMBL204_Ki"),
    *("CHEMBL2147_Ki", "CHEMBL214_Ki", "CHEMBL218_EC50", "CHEMBL219_Ki", "CHEMBL228_Ki"),
    *("CHEMBL231_Ki", "CHEMBL233_Ki", "CHEMBL234_Ki", "CHEMBL235_EC50", "CHEMBL236_Ki"),
    *("CHEMBL237_EC50", "CHEMBL237_Ki", "CHEMBL238_Ki", "CHEMBL239_EC50", "CHEMBL244_Ki"),
    *("CHEMBL262_Ki", "CHEMBL264_Ki", "CHEMBL2835_Ki", "CHEMBL287_Ki", "CHEMBL2971_Ki"),
    *("CHEMBL3979_EC50", "CHEMBL4005_Ki", "CHEMBL4203_Ki", "CHEMBL4616_EC50", "CHEMBL4792_Ki"),
)
