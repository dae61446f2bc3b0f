"""The kinds of attention in a supernet, a file each; `se_nas.space.attention.ATTENTION` names them."""
