//! The state of this box at a glance: for `yika-edge status`, the status page and `/readyz`.
