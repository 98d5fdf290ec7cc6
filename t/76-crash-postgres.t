# The crash run's PostgreSQL world in its shortest form: two `headgate serve` share one PostgreSQL and one Redis, and a worker
# of nginx, a `headgate`, Redis and PostgreSQL are each killed by SIGKILL under load. `make crash` is the long form.
use v5.36;
use Test::More;

use Headgate::Postgres;
use Headgate::Test;

Headgate::Postgres->need;

my $root = Headgate::Test->root;
%ENV = (N_EVENTS => 1000, KILLS => 4, CONCURRENCY => 4, %ENV, WORLDS => 'postgres');
exec $^X, "-I$root/t/lib", "$root/t/crash/kill-everything.t" or die "exec: $!";
