# Recovery with many deliveries in its shortest form, on SQLite: a replay of 3,000 and a start with 50,000 that are overdue,
# each with a SIGKILL in its middle. `make scale` is the long form, on both stores.
use v5.36;

use Headgate::Test;

my $root = Headgate::Test->root;
%ENV = (REPLAY => 3000, DUE => 50_000, %ENV, STORES => 'sqlite');
exec $^X, "-I$root/t/lib", "$root/t/scale/recovery.t" or die "exec: $!";
