# A location behind authentication with an RSA verification for each request.
use v5.36;

use Headgate::Bench::Static qw(guard_rs256_row);

return guard_rs256_row(kind => 'file', at_least => 0.7);
