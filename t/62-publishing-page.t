# docs/publishing.md: its configuration and every example are run as they are written, and answered as it says.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $page = $t->read_file($t->root . '/docs/publishing.md');

my ($configuration) = $page =~ /^```nginx\n(.*?)^```/ms or die 'no configuration';
my ($events, $batch) = $configuration =~ /\Alocation = \/events \{\n(.*?)^\}\n(.*)\z/ms or die 'not these locations';
my $edge = Headgate::Edge->start($t, events_location => $events, locations => $batch);
local $ENV{KEY} = $edge->add_key(plan => 'enterprise');

# What differs from run to run.
sub pattern_of ($line) {
    my $pattern = quotemeta $line;
    $pattern =~ s/[0-9a-f]{8}(?:\\-[0-9a-f]{4}){3}\\-[0-9a-f]{12}/[0-9a-f-]{36}/g;
    $pattern =~ s/\d{4}\\-\d\d\\-\d\dT\d\d\\:\d\d\\:\d\d\\\.\d{3}Z/\\d{4}-\\d\\d-\\d\\dT[\\d:]{8}\\.\\d{3}Z/g;
    return qr/\A$pattern\z/;
}

my $examples = 0;
while ($page =~ /^<!-- run -->\n```sh\n(.*?)^```\n<!-- answer -->\n```\n(.*?)^```/msg) {
    my ($code, $answer) = ($1, $2);
    my $port = $edge->nginx->port;
    $code =~ s/127\.0\.0\.1:8080/127.0.0.1:$port/g;
    open my $shell, '-|', 'bash', '-c', "set -e\n$code" or die "bash: $!";
    my @said = split /\r?\n/, do { local $/; <$shell> };
    close $shell;
    $examples++;
    my $at = 0;
    for my $line (split /\n/, $answer) {
        my $pattern = pattern_of($line);
        $at++ while $at < @said && $said[$at] !~ $pattern;
        ok $at < @said, "example $examples: $line" or diag join "\n", @said;
    }
}
is $examples, 4, 'every example was run';
is $page =~ s/^<!-- (?:run|answer) -->$//mgr =~ /<!--/ ? 1 : 0, 0, 'and there are no others';

$t->done;
