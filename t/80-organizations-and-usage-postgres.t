# t/79-organizations-and-usage.t with PostgreSQL.
use v5.36;

use Headgate::Test;

my $root = Headgate::Test->root;
$ENV{HEADGATE_TEST_ENGINE} = 'postgres';
exec $^X, "-I$root/t/lib", "$root/t/79-organizations-and-usage.t" or die "exec: $!";
