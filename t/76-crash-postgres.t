# The crash run's PostgreSQL world in its shortest form: two `headgate serve` share one PostgreSQL and one Redis, and a worker
# of nginx, a `headgate`, Redis and PostgreSQL are each killed by SIGKILL under load. `make crash` is the long form.
use v5.36;
use Test::More;

use Headgate::Test;

my $executable = $ENV{HEADGATE_BIN} // Headgate::Test->root . '/build/headgate';
plan skip_all => 'this headgate was built without PostgreSQL' if qx(ldd $executable) !~ /libpq/;
plan skip_all => 'PostgreSQL is not installed' if !glob '/usr/lib/postgresql/*/bin/initdb';

my $root = Headgate::Test->root;
%ENV = (N_EVENTS => 1000, KILLS => 4, CONCURRENCY => 4, %ENV, WORLDS => 'postgres');
exec $^X, "-I$root/t/lib", "$root/t/crash/kill-everything.t" or die "exec: $!";
