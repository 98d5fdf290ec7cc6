# Who calls in the HTTP rows: one secret and pepper for all sides, a token or two, and, from the program
# `credentials`, tokens and API keys in thousands.
package Headgate::Bench::Credentials;
use v5.36;

use Exporter qw(import);

use Headgate::Credentials qw(jwt pepper_fingerprint random_hex);

our @EXPORT_OK = qw(credentials make_api_keys make_rsa_key make_tokens);

# Requests and seconds of each window. `bench` is too large to ever refuse; `tight` shows that a peer limits.
our %PLANS = (
    bench => [[1_000_000_000, 60], [1_000_000_000, 3600]],
    tight => [[2, 60], [1000, 3600]],
);

# What the edge needs to know its callers, as the sidecar makes and projects it. Returns a hash: files for
# the directives, the secret, plans, `tokens` (plan -> text) and the file with the one of plan `bench`.
sub credentials ($t, $redis) {
    my ($pepper, $secret) = (random_hex(32), random_hex(32));
    my %meta = (contract => 1, shards => 8, pepper_fp => pepper_fingerprint($pepper), projected => 1);
    $redis->command('HSET', 'headgate:meta', %meta);
    my %tokens = map {
        $_ => jwt($secret, claims => { plan => $_, org => 'org-bench', key => "$_-key", exp => time + 86_400 })
    } keys %PLANS;
    return {
        pepper_file => $t->write_file('credentials/pepper',    "$pepper\n"),
        secret_file => $t->write_file('credentials/token.key', "$secret\n"),
        token_file  => $t->write_file('credentials/token',     "$tokens{bench}\n"),
        secret      => $secret,
        tokens      => \%tokens,
        plans       => \%PLANS,
    };
}

# RSA-2048: the paths of the private and the public key, PEM.
sub make_rsa_key ($t) {
    my @paths = map { $t->dir('credentials') . "/rsa-$_.pem" } qw(private public);
    $t->output_of($t->program('credentials'), 'rsa-key', @paths);
    chmod 0600, @paths;
    return @paths;
}

# A file with tokens of `count` subjects, signed with HS256 (a secret's file) or RS256 (a PEM).
sub make_tokens ($t, $algorithm, $key_file, $count) {
    my $tokens = $t->output_of($t->program('credentials'), 'tokens', $algorithm, $key_file, $count);
    return $t->write_file("credentials/tokens-$algorithm", $tokens);
}

# The same with API keys, projected into Redis.
sub make_api_keys ($t, $redis, $credentials, $count) {
    my $keys_file = $t->path('credentials/api-keys');
    my $commands  = $t->output_of($t->program('credentials'), 'api-keys', $credentials->{pepper_file}, $count, $keys_file);
    my $file      = $t->write_file('credentials/api-keys.resp', $commands);
    $t->output_of('sh', '-c', 'exec redis-cli -p "$1" --pipe <"$2" >/dev/null', 'sh', $redis->port, $file);
    return $keys_file;
}

1;
