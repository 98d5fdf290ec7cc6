# What it costs to have the module loaded and not to use it.
use v5.36;

use Headgate::Bench::Static qw(unused_row);

return unused_row(kind => 'gif');
