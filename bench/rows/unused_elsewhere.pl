# What it costs a server block that another one uses the module.
use v5.36;

use Headgate::Bench::Static qw(unused_row);

return unused_row(kind => 'gif', elsewhere => 1);
