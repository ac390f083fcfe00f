//! `yika-edge doctor`: what is wrong with this box, in words, and how to mend it.
