# A location behind authentication against the same without.
use v5.36;

use Headgate::Bench::Static qw(guard_row);

return guard_row(kind => 'file', at_least => 0.93);
